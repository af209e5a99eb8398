//go:build !linux

package main

import (
	"errors"
	"syscall"
)

// Namespaces exist on Linux only.

func dieWithParent() {}

func namespaces(Spec) *syscall.SysProcAttr { return &syscall.SysProcAttr{} }

func programAttributes(Spec) *syscall.SysProcAttr { return &syscall.SysProcAttr{Setsid: true} }

func enter(spec Spec) error {
	if spec.Mode != modeNone {
		return errors.New("namespaces exist on Linux only")
	}
	return nil
}

func confine(Process, string) error { return nil }

func become(Process, string) error { return nil }

func own(Spec) {}

func childOf(int) int { return 0 }
