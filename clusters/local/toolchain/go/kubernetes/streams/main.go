// baton-streams serves one exec or port-forward request of the local cluster's kubelet endpoints. The node agent has taken the
// request and knows what is allowed; it passes the connection on as descriptor 3, as if it came from a listener, and says on
// descriptor 4 what the request is for. The protocol (SPDY/3.1 from the API server) is the kubelet's own code.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strconv"
	"time"

	"k8s.io/apimachinery/pkg/types"
	remotecommandconsts "k8s.io/apimachinery/pkg/util/remotecommand"
	"k8s.io/kubelet/pkg/cri/streaming/portforward"
	"k8s.io/kubelet/pkg/cri/streaming/remotecommand"
)

// A kubelet's own time-outs.
const (
	idleTimeout     = 4 * time.Hour
	creationTimeout = 30 * time.Second
)

// What this was built from; stamped by the toolchain.
var version = "unknown"

// request is what the agent says on descriptor 4.
type request struct {
	// Kind is "exec" or "port-forward".
	Kind string `json:"kind"`
	// For exec: what to start, and what it reads on its descriptor 3.
	Command []string        `json:"command"`
	Spec    json.RawMessage `json:"spec"`
	// The user of the container, who owns the terminal and the pipes.
	UID int `json:"uid"`
	GID int `json:"gid"`
	// For port-forward: the address of the Pod.
	Address string `json:"address"`
}

func main() {
	if len(os.Args) > 1 && os.Args[1] == "--version" {
		fmt.Println("baton-streams " + version)
		return
	}
	if err := serve(); err != nil {
		fmt.Fprintln(os.Stderr, "baton-streams:", err)
		os.Exit(1)
	}
}

func serve() error {
	connection, err := net.FileConn(os.NewFile(3, "connection"))
	if err != nil {
		return err
	}
	var what request
	if err := json.NewDecoder(os.NewFile(4, "request")).Decode(&what); err != nil {
		return err
	}
	served := make(chan struct{})
	handler := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		defer close(served)
		handle(what, w, r)
	})
	go http.Serve(&single{connection: connection, over: served}, handler)
	<-served
	return nil
}

func handle(what request, w http.ResponseWriter, r *http.Request) {
	switch what.Kind {
	case "exec":
		options, err := remotecommand.NewOptions(r)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		remotecommand.ServeExec(w, r, executor{what}, "", "", "", nil, options, idleTimeout, creationTimeout,
			remotecommandconsts.SupportedStreamingProtocols)
	case "port-forward":
		options, err := portforward.NewV4Options(r)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		portforward.ServePortForward(w, r, forwarder{what.Address}, "", "", options, idleTimeout, creationTimeout,
			portforward.SupportedProtocols)
	default:
		http.Error(w, "unknown kind "+what.Kind, http.StatusInternalServerError)
	}
}

// single is a listener that has one connection to give.
type single struct {
	connection net.Conn
	given      bool
	over       <-chan struct{}
}

func (s *single) Accept() (net.Conn, error) {
	if s.given {
		<-s.over
		return nil, errors.New("there is only one")
	}
	s.given = true
	return s.connection, nil
}

func (s *single) Close() error { return nil }

func (s *single) Addr() net.Addr { return s.connection.LocalAddr() }

type forwarder struct{ address string }

// PortForward copies between a stream of the client and a connection to the Pod, until either side has ended.
func (f forwarder) PortForward(ctx context.Context, _ string, _ types.UID, port int32, stream io.ReadWriteCloser) error {
	dialer := net.Dialer{Timeout: creationTimeout}
	connection, err := dialer.DialContext(ctx, "tcp", net.JoinHostPort(f.address, strconv.Itoa(int(port))))
	if err != nil {
		return err
	}
	defer connection.Close()
	done := make(chan struct{})
	go func() {
		defer close(done)
		io.Copy(stream, connection)
		// The client is told that there is no more.
		stream.Close()
	}()
	io.Copy(connection, stream)
	connection.(*net.TCPConn).CloseWrite()
	<-done
	return nil
}
