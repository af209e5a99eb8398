// baton-container runs one container of the local cluster: a program in namespaces of its own, as the user and with the
// rights that its manifest names, its output in a log of the kubelet's format.
//
//	baton-container run    started by the node agent; see run.go for what they say to each other
//	baton-container init   process 1 of the container; see init.go
//	baton-container exec   another program in the container, through nsenter; see exec.go
package main

import (
	"fmt"
	"os"
)

// What this was built from; stamped by the toolchain.
var version = "unknown"

func main() {
	command := ""
	if len(os.Args) > 1 {
		command = os.Args[1]
	}
	switch command {
	case "run":
		run()
	case "init":
		initMain()
	case "exec":
		execMain()
	case "version", "--version":
		fmt.Println("baton-container " + version)
	default:
		fmt.Fprintln(os.Stderr, "usage: baton-container run | init | exec | version")
		os.Exit(2)
	}
}
