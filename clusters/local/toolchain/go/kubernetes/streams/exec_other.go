//go:build !linux

package main

import (
	"context"
	"errors"
	"io"
	"time"

	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/remotecommand"
)

type executor struct{ what request }

// ExecInContainer enters namespaces, which exist on Linux only.
func (executor) ExecInContainer(context.Context, string, types.UID, string, []string, io.Reader, io.WriteCloser,
	io.WriteCloser, bool, <-chan remotecommand.TerminalSize, time.Duration) error {
	return errors.New("not supported by the local node agent on this system")
}
