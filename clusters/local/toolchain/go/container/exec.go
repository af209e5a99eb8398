package main

import (
	"encoding/json"
	"fmt"
	"os"
	"runtime"
	"syscall"
)

// execMain becomes another program of the container: nsenter has put us among its namespaces, the rest is done here. Its
// Spec comes through descriptor 3, for other users of the machine can read a command line.
// As a shell does, 127 says that there is no such program and 126 that it cannot be run.
func execMain() {
	runtime.LockOSThread()
	fail := func(code int, err error) {
		fmt.Fprintf(os.Stderr, "exec: %v\n", err)
		os.Exit(code)
	}
	syscall.CloseOnExec(3)
	var spec Spec
	if err := json.NewDecoder(os.NewFile(3, "spec")).Decode(&spec); err != nil {
		fail(126, err)
	}
	if err := os.Chdir(spec.Cwd); err != nil {
		fail(126, err)
	}
	path, err := look(spec.Args[0], spec.Env)
	if err != nil {
		fail(127, err)
	}
	if err := confine(spec.Process, spec.Mode); err != nil {
		fail(126, err)
	}
	if err := become(spec.Process, spec.Mode); err != nil {
		fail(126, err)
	}
	fail(126, syscall.Exec(path, spec.Args, spec.Env))
}
