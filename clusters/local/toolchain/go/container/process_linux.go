package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// What container runtimes give by default, without MKNOD: nothing here keeps a program from the devices that it could make.
var capabilities = map[string]uintptr{
	"AUDIT_WRITE":      unix.CAP_AUDIT_WRITE,
	"CHOWN":            unix.CAP_CHOWN,
	"DAC_OVERRIDE":     unix.CAP_DAC_OVERRIDE,
	"FOWNER":           unix.CAP_FOWNER,
	"FSETID":           unix.CAP_FSETID,
	"KILL":             unix.CAP_KILL,
	"NET_BIND_SERVICE": unix.CAP_NET_BIND_SERVICE,
	"NET_RAW":          unix.CAP_NET_RAW,
	"SETFCAP":          unix.CAP_SETFCAP,
	"SETGID":           unix.CAP_SETGID,
	"SETPCAP":          unix.CAP_SETPCAP,
	"SETUID":           unix.CAP_SETUID,
	"SYS_CHROOT":       unix.CAP_SYS_CHROOT,
}

// What init itself needs where it is not root.
var initCapabilities = []uintptr{unix.CAP_SYS_ADMIN, unix.CAP_SYS_CHROOT, unix.CAP_SETPCAP, unix.CAP_KILL}

func dieWithParent() {
	parent := os.Getppid()
	unix.Prctl(unix.PR_SET_PDEATHSIG, uintptr(unix.SIGKILL), 0, 0, 0)
	if os.Getppid() != parent {
		os.Exit(1)
	}
}

// namespaces says in which namespaces process 1 starts. It ends when we do.
func namespaces(spec Spec) *syscall.SysProcAttr {
	attributes := &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if spec.Mode == modeNone {
		return attributes
	}
	attributes.Cloneflags = unix.CLONE_NEWPID | unix.CLONE_NEWNS | unix.CLONE_NEWIPC | unix.CLONE_NEWUTS
	if spec.Mode == modeUser {
		attributes.Cloneflags |= unix.CLONE_NEWUSER
		attributes.UidMappings = []syscall.SysProcIDMap{{ContainerID: int(spec.Process.UID), HostID: os.Getuid(), Size: 1}}
		attributes.GidMappings = []syscall.SysProcIDMap{{ContainerID: int(spec.Process.GID), HostID: os.Getgid(), Size: 1}}
		attributes.AmbientCaps = initCapabilities
	}
	return attributes
}

// programAttributes makes the program the leader of a session, as a container runtime does.
func programAttributes(spec Spec) *syscall.SysProcAttr {
	attributes := &syscall.SysProcAttr{Setsid: true, Pdeathsig: syscall.SIGKILL}
	if spec.Mode == modeRoot {
		process := spec.Process
		attributes.Credential = &syscall.Credential{Uid: process.UID, Gid: process.GID, Groups: process.Groups}
	}
	return attributes
}

// confine bounds what the programs that this thread starts can ever be allowed.
func confine(process Process, mode string) error {
	if mode == modeNone {
		return nil
	}
	keep := map[uintptr]bool{}
	for _, name := range process.Capabilities {
		number, known := capabilities[name]
		if !known {
			return fmt.Errorf("capability %s is not given here", name)
		}
		keep[number] = true
	}
	for number := uintptr(0); number <= unix.CAP_LAST_CAP; number++ {
		if keep[number] {
			continue
		}
		err := unix.Prctl(unix.PR_CAPBSET_DROP, number, 0, 0, 0)
		// EINVAL: a kernel that does not know this one. EPERM: nsenter has left us nothing that could be dropped.
		if err != nil && err != unix.EINVAL && !(err == unix.EPERM && mode == modeUser) {
			return fmt.Errorf("dropping capability %d: %w", number, err)
		}
	}
	if err := unix.Prctl(unix.PR_CAP_AMBIENT, unix.PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0); err != nil {
		return fmt.Errorf("dropping ambient capabilities: %w", err)
	}
	if err := dropInheritable(); err != nil {
		return err
	}
	if !process.NoNewPrivileges {
		return nil
	}
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return fmt.Errorf("no_new_privs: %w", err)
	}
	return nil
}

// dropInheritable takes what a program that runs as root would inherit beside what bounds it.
func dropInheritable() error {
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	if err := unix.Capget(&header, &data[0]); err != nil {
		return fmt.Errorf("reading capabilities: %w", err)
	}
	data[0].Inheritable, data[1].Inheritable = 0, 0
	if err := unix.Capset(&header, &data[0]); err != nil {
		return fmt.Errorf("dropping inheritable capabilities: %w", err)
	}
	return nil
}

// become gives up root for the user that the manifest names.
func become(process Process, mode string) error {
	if mode != modeRoot {
		return nil
	}
	groups := make([]int, len(process.Groups))
	for index, group := range process.Groups {
		groups[index] = int(group)
	}
	gid, uid := int(process.GID), int(process.UID)
	if err := syscall.Setgroups(groups); err != nil {
		return fmt.Errorf("groups: %w", err)
	}
	if err := syscall.Setresgid(gid, gid, gid); err != nil {
		return fmt.Errorf("group %d: %w", gid, err)
	}
	if err := syscall.Setresuid(uid, uid, uid); err != nil {
		return fmt.Errorf("user %d: %w", uid, err)
	}
	return nil
}

// own gives the container's user the pipes of its output.
func own(spec Spec) {
	if spec.Mode != modeRoot {
		return
	}
	for _, file := range []*os.File{os.Stdout, os.Stderr} {
		unix.Fchown(int(file.Fd()), int(spec.Process.UID), int(spec.Process.GID))
	}
}

// childOf finds the program by its parent, process 1; 0 when it has ended already.
func childOf(init int) int {
	files, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", init))
	for _, file := range files {
		text, _ := os.ReadFile(file)
		if fields := strings.Fields(string(text)); len(fields) > 0 {
			pid, _ := strconv.Atoi(fields[0])
			return pid
		}
	}
	return 0
}
