package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sort"

	"golang.org/x/sys/unix"
)

// Where the container finds this program, for what is run in it later.
const helperPath = "/run/baton-container"

// What of /proc is about the whole machine: as container runtimes have it.
var (
	maskedPaths = []string{"/proc/acpi", "/proc/kcore", "/proc/keys", "/proc/latency_stats", "/proc/sched_debug",
		"/proc/scsi", "/proc/timer_list", "/proc/timer_stats"}
	readOnlyPaths = []string{"/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"}
	devices       = []string{"full", "null", "random", "tty", "urandom", "zero"}
)

// enter makes the container's view of the machine: what its Spec names, read-only unless it says otherwise, and nothing else.
func enter(spec Spec) error {
	if spec.Mode == modeNone {
		return nil
	}
	if spec.Mode == modeRoot {
		// A program that runs as root in the container must not look into us.
		unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0)
	}
	unix.Umask(0)
	defer unix.Umask(0o022)
	if err := unix.Sethostname([]byte(spec.Hostname)); err != nil {
		return fmt.Errorf("host name: %w", err)
	}
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("mounts of its own: %w", err)
	}
	if err := mountFS("tmpfs", spec.Root, unix.MS_NOSUID|unix.MS_NODEV, "mode=755,size=1m"); err != nil {
		return err
	}
	for _, step := range []func(Spec) error{mountPaths, mountSystem, mountDev} {
		if err := step(spec); err != nil {
			return err
		}
	}
	if err := pivot(spec.Root); err != nil {
		return err
	}
	return maskProc()
}

func mountFS(kind, target string, flags uintptr, data string) error {
	if err := os.MkdirAll(target, 0o755); err != nil {
		return err
	}
	if err := unix.Mount(kind, target, kind, flags, data); err != nil {
		return fmt.Errorf("%s on %s: %w", kind, target, err)
	}
	return nil
}

func mountPaths(spec Spec) error {
	executable, err := os.Readlink("/proc/self/exe")
	if err != nil {
		return err
	}
	mounts := append([]Mount{{Path: helperPath, From: executable, Kind: "read"}}, spec.Mounts...)
	// A path after those that it lies in.
	sort.SliceStable(mounts, func(a, b int) bool { return len(mounts[a].Path) < len(mounts[b].Path) })
	for _, mount := range mounts {
		target := filepath.Join(spec.Root, mount.Path)
		if mount.Kind == "hide" {
			err = mountFS("tmpfs", target, unix.MS_NOSUID|unix.MS_NODEV, "mode=755,size=1m")
		} else {
			from := mount.From
			if from == "" {
				from = mount.Path
			}
			err = bind(from, target, mount.Kind == "read")
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func bind(from, target string, readOnly bool) error {
	info, err := os.Lstat(from)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(target), 0o755); err != nil {
		return err
	}
	switch {
	case info.Mode()&os.ModeSymlink != 0:
		to, err := os.Readlink(from)
		if err != nil {
			return err
		}
		if err := os.Symlink(to, target); err != nil && !errors.Is(err, os.ErrExist) {
			return err
		}
		return nil
	case info.IsDir():
		err = os.MkdirAll(target, 0o755)
	default:
		var file *os.File
		if file, err = os.OpenFile(target, os.O_CREATE|os.O_RDONLY, 0o644); err == nil {
			file.Close()
		}
	}
	if err != nil {
		return err
	}
	if err := unix.Mount(from, target, "", unix.MS_BIND|unix.MS_REC, ""); err != nil {
		return fmt.Errorf("bind %s: %w", from, err)
	}
	if readOnly {
		return protect(target, unix.MOUNT_ATTR_RDONLY, unix.AT_RECURSIVE)
	}
	return protect(target, unix.MOUNT_ATTR_NOSUID, unix.AT_RECURSIVE)
}

func protect(target string, attributes uint64, flags uint) error {
	if err := unix.MountSetattr(unix.AT_FDCWD, target, flags, &unix.MountAttr{Attr_set: attributes}); err != nil {
		return fmt.Errorf("protecting %s: %w", target, err)
	}
	return nil
}

func mountSystem(spec Spec) error {
	proc := filepath.Join(spec.Root, "proc")
	if err := mountFS("proc", proc, unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, ""); err != nil {
		return err
	}
	return bind("/sys", filepath.Join(spec.Root, "sys"), true)
}

func mountDev(spec Spec) error {
	dev := filepath.Join(spec.Root, "dev")
	if err := mountFS("tmpfs", dev, unix.MS_NOSUID, "mode=755,size=64k"); err != nil {
		return err
	}
	for _, name := range devices {
		target := filepath.Join(dev, name)
		file, err := os.OpenFile(target, os.O_CREATE|os.O_RDONLY, 0o666)
		if err != nil {
			return err
		}
		file.Close()
		if err := unix.Mount("/dev/"+name, target, "", unix.MS_BIND, ""); err != nil {
			return fmt.Errorf("bind /dev/%s: %w", name, err)
		}
	}
	for name, to := range map[string]string{"fd": "/proc/self/fd", "stdin": "/proc/self/fd/0",
		"stdout": "/proc/self/fd/1", "stderr": "/proc/self/fd/2", "ptmx": "pts/ptmx"} {
		if err := os.Symlink(to, filepath.Join(dev, name)); err != nil {
			return err
		}
	}
	pts := "newinstance,ptmxmode=0666,mode=0620"
	if err := mountFS("devpts", filepath.Join(dev, "pts"), unix.MS_NOSUID|unix.MS_NOEXEC, pts); err != nil {
		return err
	}
	return mountFS("tmpfs", filepath.Join(dev, "shm"), unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, "mode=1777,size=64m")
}

// pivot makes the folder the root of everything, and forgets what was there before.
func pivot(root string) error {
	if err := os.Chdir(root); err != nil {
		return err
	}
	if err := unix.PivotRoot(".", "."); err != nil {
		return fmt.Errorf("pivot_root: %w", err)
	}
	if err := unix.Unmount(".", unix.MNT_DETACH); err != nil {
		return fmt.Errorf("leaving the old root: %w", err)
	}
	if err := os.Chdir("/"); err != nil {
		return err
	}
	return protect("/", unix.MOUNT_ATTR_RDONLY, 0)
}

func maskProc() error {
	for _, path := range maskedPaths {
		info, err := os.Stat(path)
		if err != nil {
			continue
		}
		if info.IsDir() {
			err = unix.Mount("tmpfs", path, "tmpfs", unix.MS_RDONLY, "size=0")
		} else {
			err = unix.Mount("/dev/null", path, "", unix.MS_BIND, "")
		}
		if err != nil {
			return fmt.Errorf("masking %s: %w", path, err)
		}
	}
	for _, path := range readOnlyPaths {
		if _, err := os.Stat(path); err != nil {
			continue
		}
		if err := unix.Mount(path, path, "", unix.MS_BIND|unix.MS_REC, ""); err != nil {
			return fmt.Errorf("bind %s: %w", path, err)
		}
		if err := protect(path, unix.MOUNT_ATTR_RDONLY, unix.AT_RECURSIVE); err != nil {
			return err
		}
	}
	return nil
}
