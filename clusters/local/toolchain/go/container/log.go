package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"time"
)

// A longer line is cut in parts, as container runtimes do.
const maxLine = 16 * 1024

// logFile takes the lines of both streams in the format that a kubelet reads: time, stream, F or P (a part of a line), text.
type logFile struct {
	mutex   sync.Mutex
	path    string
	max     int64
	size    int64
	file    *os.File
	failing bool
}

func openLog(log Log) (*logFile, error) {
	l := &logFile{path: log.Path, max: log.MaxBytes}
	return l, l.open()
}

func (l *logFile) open() error {
	file, err := os.OpenFile(l.path, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o640)
	if err != nil {
		return err
	}
	info, err := file.Stat()
	if err != nil {
		return err
	}
	l.file, l.size = file, info.Size()
	return nil
}

// copy writes what comes from a stream until it ends. The program never waits for a disk that is full: lines are lost then.
func (l *logFile) copy(name string, from io.Reader) {
	reader := bufio.NewReaderSize(from, maxLine)
	for {
		line, err := reader.ReadSlice('\n')
		if len(line) > 0 {
			tag := "F"
			if line[len(line)-1] == '\n' {
				line = line[:len(line)-1]
			} else if errors.Is(err, bufio.ErrBufferFull) {
				tag = "P"
			}
			l.write(name, tag, line)
		}
		if err != nil && !errors.Is(err, bufio.ErrBufferFull) {
			return
		}
	}
}

func (l *logFile) write(name, tag string, line []byte) {
	l.mutex.Lock()
	defer l.mutex.Unlock()
	entry := append([]byte(fmt.Sprintf("%s %s %s ", time.Now().UTC().Format("2006-01-02T15:04:05.000000000Z"), name, tag)), line...)
	written, err := l.file.Write(append(entry, '\n'))
	if err != nil && !l.failing {
		fmt.Fprintf(os.Stderr, "log %s: %v\n", l.path, err)
	}
	l.failing = err != nil
	l.size += int64(written)
	if l.size > l.max {
		l.rotate()
	}
}

// rotate puts the log aside; what follows goes to a new one.
func (l *logFile) rotate() {
	if err := os.Rename(l.path, l.path+".1"); err != nil {
		fmt.Fprintf(os.Stderr, "log %s: %v\n", l.path, err)
		l.size = 0
		return
	}
	old := l.file
	if err := l.open(); err != nil {
		// Goes on into the one that was put aside.
		fmt.Fprintf(os.Stderr, "log %s: %v\n", l.path, err)
		l.size = 0
		return
	}
	old.Close()
}
