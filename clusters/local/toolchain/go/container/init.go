package main

import (
	"bufio"
	"encoding/json"
	"os"
	"os/exec"
	"runtime"
	"syscall"
)

// initMain is process 1 of the container: it makes the container's root, starts the program, passes signals on to it and
// reaps what it leaves behind. A program that were process 1 itself would not be ended by a signal that it does not handle.
func initMain() {
	// What bounds the program is a matter of the thread that starts it.
	runtime.LockOSThread()
	// From within, root could end process 1.
	heedNoSignals()
	syscall.CloseOnExec(3)
	syscall.CloseOnExec(4)
	commands := bufio.NewReaderSize(os.NewFile(3, "commands"), 1<<20)
	events := json.NewEncoder(os.NewFile(4, "events"))
	fail := func(err error) {
		events.Encode(Event{Kind: "failed", Code: startFailed, Message: err.Error()})
		os.Exit(1)
	}
	var spec Spec
	line, err := commands.ReadBytes('\n')
	if err == nil {
		err = json.Unmarshal(line, &spec)
	}
	if err != nil {
		fail(err)
	}
	if err := enter(spec); err != nil {
		fail(err)
	}
	program, err := start(spec)
	if err != nil {
		fail(err)
	}
	events.Encode(Event{Kind: "started"})
	go obey(commands, spec.Mode, program)
	code, number := reap(program)
	endGroup(spec.Mode, program)
	events.Encode(Event{Kind: "ended", Code: code, Signal: number})
}

func start(spec Spec) (int, error) {
	// The container may open its own output again, by /dev/stdout.
	own(spec)
	if err := confine(spec.Process, spec.Mode); err != nil {
		return 0, err
	}
	if err := os.Chdir(spec.Cwd); err != nil {
		return 0, err
	}
	path, err := look(spec.Args[0], spec.Env)
	if err != nil {
		return 0, err
	}
	null, err := os.Open(os.DevNull)
	if err != nil {
		return 0, err
	}
	process, err := os.StartProcess(path, spec.Args, &os.ProcAttr{
		Env:   spec.Env,
		Files: []*os.File{null, os.Stdout, os.Stderr},
		Sys:   programAttributes(spec),
	})
	if err != nil {
		return 0, err
	}
	return process.Pid, nil
}

// look finds a program by the PATH that it will itself have.
func look(name string, env []string) (string, error) {
	os.Unsetenv("PATH")
	for _, entry := range env {
		if len(entry) > 5 && entry[:5] == "PATH=" {
			os.Setenv("PATH", entry[5:])
		}
	}
	return exec.LookPath(name)
}

// obey gives signals to the program. When nobody is left to give any, everything ends.
func obey(commands *bufio.Reader, mode string, program int) {
	for {
		line, err := commands.ReadBytes('\n')
		if err != nil && mode == modeNone {
			endGroup(mode, program)
			return
		}
		if err != nil {
			os.Exit(1)
		}
		var command Command
		if json.Unmarshal(line, &command) == nil && command.Signal == "TERM" {
			syscall.Kill(program, syscall.SIGTERM)
		}
	}
}

// reap waits until the program has ended: with its exit code, or 128 + the number of the signal and the signal.
func reap(program int) (int, int) {
	for {
		var status syscall.WaitStatus
		pid, err := syscall.Wait4(-1, &status, 0, nil)
		if err == syscall.EINTR {
			continue
		}
		if err != nil {
			return 1, 0
		}
		if pid != program {
			continue
		}
		if status.Signaled() {
			return 128 + int(status.Signal()), int(status.Signal())
		}
		return status.ExitStatus(), 0
	}
}

// endGroup ends what the program has left behind. With namespaces the kernel does that when process 1 ends.
func endGroup(mode string, program int) {
	if mode == modeNone {
		syscall.Kill(-program, syscall.SIGKILL)
	}
}
