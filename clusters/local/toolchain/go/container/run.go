package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"runtime"
	"sync"
	"syscall"
	"time"
)

// How long to wait for output that processes outside the container's namespaces still hold.
const drain = time.Second

// A shell's words for what happened when a program could not be started.
const startFailed = 128

// run starts the container and stays beside it, outside. The agent writes a Spec as one line to its input and then
// Commands; it says Events on its output, "ended" or "failed" last. When its input ends, the agent is gone, and the container is ended.
func run() {
	// The kernel ends init when the thread that started it ends: that must be the one that lives as long as we do.
	runtime.LockOSThread()
	heedNoSignals()
	dieWithParent()
	input := bufio.NewReaderSize(os.Stdin, 1<<20)
	output := json.NewEncoder(os.Stdout)
	var spec Spec
	line, err := input.ReadBytes('\n')
	if err == nil {
		err = json.Unmarshal(line, &spec)
	}
	if err != nil {
		output.Encode(Event{Kind: "failed", Code: startFailed, Message: "spec: " + err.Error()})
		return
	}
	output.Encode(runSpec(spec, line, input, output))
}

// heedNoSignals has signals do nothing here. Ignored ones would be ignored by the program too: that is inherited.
func heedNoSignals() {
	signal.Notify(make(chan os.Signal, 1))
}

func runSpec(spec Spec, line []byte, input *bufio.Reader, output *json.Encoder) Event {
	failed := func(err error) Event {
		return Event{Kind: "failed", Code: startFailed, Message: err.Error()}
	}
	log, err := openLog(spec.Log)
	if err != nil {
		return failed(err)
	}
	files, err := pipes(4)
	if err != nil {
		return failed(err)
	}
	stdout, stderr, commands, events := files[0], files[1], files[2], files[3]
	self, err := os.Executable()
	if err != nil {
		return failed(err)
	}
	init := exec.Command(self, "init")
	init.Env = []string{}
	init.Stdout, init.Stderr = stdout.w, stderr.w
	init.ExtraFiles = []*os.File{commands.r, events.w}
	init.SysProcAttr = namespaces(spec)
	if err := init.Start(); err != nil {
		return failed(err)
	}
	for _, file := range []*os.File{stdout.w, stderr.w, commands.r, events.w} {
		file.Close()
	}
	var copying sync.WaitGroup
	for name, from := range map[string]io.Reader{"stdout": stdout.r, "stderr": stderr.r} {
		copying.Add(1)
		go func() {
			defer copying.Done()
			log.copy(name, from)
		}()
	}
	commands.w.Write(line)
	go forward(input, commands.w, spec.Mode, init.Process.Pid)
	last := follow(events.r, init.Process.Pid, output)
	err = init.Wait()
	wait(&copying, drain)
	if last != nil {
		return *last
	}
	// It was ended from outside before it could say how.
	var status *exec.ExitError
	if errors.As(err, &status) {
		if how, ok := status.Sys().(syscall.WaitStatus); ok && how.Signaled() {
			return Event{Kind: "ended", Code: 128 + int(how.Signal()), Signal: int(how.Signal())}
		}
	}
	return Event{Kind: "failed", Code: startFailed, Message: "the container's first process ended"}
}

type pipe struct{ r, w *os.File }

func pipes(count int) ([]pipe, error) {
	var all []pipe
	for range count {
		r, w, err := os.Pipe()
		if err != nil {
			return nil, err
		}
		all = append(all, pipe{r, w})
	}
	return all, nil
}

// forward passes the agent's commands on. KILL, and the end of the agent, end process 1 and with it all of the container;
// without namespaces process 1 ends what it can find.
func forward(input *bufio.Reader, to io.WriteCloser, mode string, init int) {
	defer to.Close()
	for {
		line, err := input.ReadBytes('\n')
		var command Command
		if err == nil && json.Unmarshal(line, &command) == nil && command.Signal != "KILL" {
			to.Write(line)
			continue
		}
		if mode != modeNone {
			syscall.Kill(init, syscall.SIGKILL)
		}
		return
	}
}

// follow passes on that the container has started, and returns the event that is its last.
func follow(from io.Reader, init int, output *json.Encoder) *Event {
	events := json.NewDecoder(from)
	for {
		var event Event
		if events.Decode(&event) != nil {
			return nil
		}
		if event.Kind != "started" {
			return &event
		}
		output.Encode(Event{Kind: "started", Init: init, Pid: childOf(init)})
	}
}

func wait(group *sync.WaitGroup, limit time.Duration) {
	done := make(chan struct{})
	go func() {
		group.Wait()
		close(done)
	}()
	select {
	case <-done:
	case <-time.After(limit):
	}
}
