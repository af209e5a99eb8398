package main

// How much of its own a container gets.
const (
	// Namespaces made by root: other users inside, bounded capabilities.
	modeRoot = "namespaces"
	// Namespaces within a user namespace: the one who started us, under the number that the manifest names.
	modeUser = "user-namespaces"
	// None can be had: a process like any other of the machine.
	modeNone = "none"
)

// Spec is what the node agent says of a container.
type Spec struct {
	Mode     string   `json:"mode"`
	Args     []string `json:"args"`
	Env      []string `json:"env"`
	Cwd      string   `json:"cwd"`
	Hostname string   `json:"hostname"`
	Process  Process  `json:"process"`
	// An empty folder that the container's root is mounted on, in the container's view only.
	Root   string  `json:"root"`
	Mounts []Mount `json:"mounts"`
	Log    Log     `json:"log"`
}

// Process is who a program of the container is and what it may do.
type Process struct {
	UID    uint32   `json:"uid"`
	GID    uint32   `json:"gid"`
	Groups []uint32 `json:"groups"`
	// All that a program which gains rights can ever have, without CAP_.
	Capabilities    []string `json:"capabilities"`
	NoNewPrivileges bool     `json:"noNewPrivileges"`
}

// Mount is a path of the machine that the container sees under its own name.
type Mount struct {
	Path string `json:"path"`
	// "read", "write", or "hide" for an empty folder in its place.
	Kind string `json:"kind"`
	// Where it is on the machine, if that is elsewhere.
	From string `json:"from"`
}

// Log is where the output goes.
type Log struct {
	Path string `json:"path"`
	// Size at which the log is put aside as <path>.1.
	MaxBytes int64 `json:"maxBytes"`
}

// Command is a later line of the agent: a signal for the program, or KILL for all of the container.
type Command struct {
	Signal string `json:"signal"`
}

// Event is a line that run says to the agent, and init to run.
type Event struct {
	// Kind is "started", "ended" or "failed".
	Kind string `json:"kind"`
	// Process 1 of the container and its program, as numbered outside; 0 if not known.
	Init int `json:"init,omitempty"`
	Pid  int `json:"pid,omitempty"`
	// How it ended: an exit code, or the number of the signal.
	Code   int `json:"code"`
	Signal int `json:"signal,omitempty"`
	// Why it could not be started.
	Message string `json:"message,omitempty"`
}
