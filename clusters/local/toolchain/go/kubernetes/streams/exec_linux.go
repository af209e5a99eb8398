package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/remotecommand"
	utilexec "k8s.io/utils/exec"
)

type executor struct{ what request }

// ExecInContainer runs the agent's command for entering the container; what it is to run there, the Spec says.
func (e executor) ExecInContainer(_ context.Context, _ string, _ types.UID, _ string, _ []string, in io.Reader,
	out, errs io.WriteCloser, tty bool, resize <-chan remotecommand.TerminalSize, _ time.Duration) error {
	command := exec.Command(e.what.Command[0], e.what.Command[1:]...)
	command.Env = []string{}
	specReader, specWriter, err := os.Pipe()
	if err != nil {
		return err
	}
	defer specReader.Close()
	command.ExtraFiles = []*os.File{specReader}
	go func() {
		specWriter.Write(e.what.Spec)
		specWriter.Close()
	}()
	if tty {
		err = e.withTerminal(command, in, out, resize)
	} else {
		err = e.withPipes(command, in, out, errs)
	}
	return exitError(err)
}

// withPipes gives the command pipes that its user owns, so that it can open them again by /dev/stdout.
func (e executor) withPipes(command *exec.Cmd, in io.Reader, out, errs io.Writer) error {
	command.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	var copying sync.WaitGroup
	var ends []*os.File
	pipeTo := func(to io.Writer) (*os.File, error) {
		reader, writer, err := os.Pipe()
		if err != nil {
			return nil, err
		}
		unix.Fchown(int(writer.Fd()), e.what.UID, e.what.GID)
		ends = append(ends, writer)
		copying.Add(1)
		go func() {
			defer copying.Done()
			defer reader.Close()
			io.Copy(to, reader)
		}()
		return writer, nil
	}
	var err error
	// A nil *os.File would be a writer that is there.
	if out != nil {
		if command.Stdout, err = pipeTo(out); err != nil {
			return err
		}
	}
	if errs != nil {
		if command.Stderr, err = pipeTo(errs); err != nil {
			return err
		}
	}
	if in != nil {
		reader, writer, err := os.Pipe()
		if err != nil {
			return err
		}
		unix.Fchown(int(reader.Fd()), e.what.UID, e.what.GID)
		command.Stdin = reader
		ends = append(ends, reader)
		go func() {
			// Ends with the client's input, or when the program no longer reads.
			io.Copy(writer, in)
			writer.Close()
		}()
	}
	err = command.Start()
	for _, end := range ends {
		end.Close()
	}
	if err != nil {
		return err
	}
	err = command.Wait()
	copying.Wait()
	return err
}

func (e executor) withTerminal(command *exec.Cmd, in io.Reader, out io.Writer, resize <-chan remotecommand.TerminalSize) error {
	master, slave, err := terminal(e.what.UID)
	if err != nil {
		return err
	}
	defer master.Close()
	command.Stdin, command.Stdout, command.Stderr = slave, slave, slave
	command.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	err = command.Start()
	slave.Close()
	if err != nil {
		return err
	}
	go func() {
		for size := range resize {
			unix.IoctlSetWinsize(int(master.Fd()), unix.TIOCSWINSZ, &unix.Winsize{Row: size.Height, Col: size.Width})
		}
	}()
	if in != nil {
		go io.Copy(master, in)
	}
	copied := make(chan struct{})
	go func() {
		defer close(copied)
		if out != nil {
			// Ends when nobody has the terminal open any more.
			io.Copy(out, master)
		}
	}()
	err = command.Wait()
	select {
	case <-copied:
	case <-time.After(time.Second):
	}
	return err
}

// terminal makes a pair of ends of a pseudo terminal, the second for the container's user.
func terminal(uid int) (*os.File, *os.File, error) {
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		return nil, nil, err
	}
	number, err := unix.IoctlGetInt(int(master.Fd()), unix.TIOCGPTN)
	if err == nil {
		err = unix.IoctlSetPointerInt(int(master.Fd()), unix.TIOCSPTLCK, 0)
	}
	if err != nil {
		master.Close()
		return nil, nil, fmt.Errorf("terminal: %w", err)
	}
	slave, err := os.OpenFile(fmt.Sprintf("/dev/pts/%d", number), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		master.Close()
		return nil, nil, err
	}
	unix.Fchown(int(slave.Fd()), uid, -1)
	return master, slave, nil
}

// exitError says how the command ended as the kubelet's code expects it: 128 + the number of a signal that ended it.
func exitError(err error) error {
	var exit *exec.ExitError
	if !errors.As(err, &exit) {
		return err
	}
	code := exit.ExitCode()
	if status, ok := exit.Sys().(syscall.WaitStatus); ok && status.Signaled() {
		code = 128 + int(status.Signal())
	}
	return utilexec.CodeExitError{Err: err, Code: code}
}
