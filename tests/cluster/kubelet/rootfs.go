package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sort"
	"strings"

	"golang.org/x/sys/unix"
)

// The number of symbolic links that the resolution of a path may follow.
const linkLimit = 40

// bindMount is a file or directory of the machine that is mounted in the container. If Tmpfs has
// mount options, it is a new tmpfs instead.
type bindMount struct {
	Source   string
	Target   string
	ReadOnly bool
	Tmpfs    string
}

// rootfs builds the root file system of a container: a tmpfs with read-only bind mounts of the
// machine's directories. If a mount point does not exist in a directory of the machine, the directory
// is replaced with a tmpfs that has bind mounts of its entries and the mount point. An overlay would
// be simpler, but the kernel does not allow it without real root.
type rootfs struct {
	path string
}

// Directories that each container has itself, instead of those of the machine.
var ownDirectories = map[string]os.FileMode{
	"/proc": 0o555, "/tmp": 0o1777, "/run": 0o755, "/mnt": 0o755, "/media": 0o755, "/srv": 0o755,
}

// build builds the root file system in an empty directory.
func (r rootfs) build(mounts []bindMount) error {
	if err := unix.Mount("tmpfs", r.path, "tmpfs", unix.MS_NOSUID|unix.MS_NODEV, "mode=755"); err != nil {
		return fmt.Errorf("cannot mount the root: %w", err)
	}
	if err := r.mirror("/", r.path, ownDirectories); err != nil {
		return err
	}
	for directory, mode := range ownDirectories {
		at := filepath.Join(r.path, directory)
		if err := os.MkdirAll(at, mode); err != nil {
			return err
		}
		if err := os.Chmod(at, mode&0o777|stickyOf(mode)); err != nil {
			return err
		}
	}
	if err := unix.Mount("proc", filepath.Join(r.path, "proc"), "proc", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, ""); err != nil {
		return fmt.Errorf("cannot mount /proc: %w", err)
	}
	// A container may write to /etc, and always has its own files there.
	if err := r.replace(filepath.Join(r.path, "etc")); err != nil {
		return err
	}
	sort.SliceStable(mounts, func(a, b int) bool {
		return strings.Count(mounts[a].Target, "/") < strings.Count(mounts[b].Target, "/")
	})
	for _, one := range mounts {
		if err := r.bind(one); err != nil {
			return fmt.Errorf("mount %s: %w", one.Target, err)
		}
	}
	return nil
}

func stickyOf(mode os.FileMode) os.FileMode {
	if mode&0o1000 != 0 {
		return os.ModeSticky
	}
	return 0
}

// enter makes this the root of the process and unmounts the machine's root.
func (r rootfs) enter() error {
	if err := unix.Chdir(r.path); err != nil {
		return err
	}
	// The old root is stacked on the new one, and is unmounted from there.
	if err := unix.PivotRoot(".", "."); err != nil {
		return fmt.Errorf("pivot_root: %w", err)
	}
	if err := unix.Unmount(".", unix.MNT_DETACH); err != nil {
		return fmt.Errorf("cannot unmount the old root: %w", err)
	}
	return unix.Chdir("/")
}

// mirror fills an empty directory with bind mounts of the entries of another directory.
func (r rootfs) mirror(from, to string, except map[string]os.FileMode) error {
	entries, err := os.ReadDir(from)
	if err != nil {
		return err
	}
	for _, entry := range entries {
		source := filepath.Join(from, entry.Name())
		target := filepath.Join(to, entry.Name())
		if _, own := except[source]; own {
			continue
		}
		switch {
		case entry.Type()&os.ModeSymlink != 0:
			link, err := os.Readlink(source)
			if err != nil {
				return err
			}
			err = os.Symlink(link, target)
			if err != nil {
				return err
			}
			continue
		case entry.IsDir():
			err = os.Mkdir(target, 0o755)
		case entry.Type().IsRegular():
			err = touch(target)
		default:
			// Containers must not access sockets and pipes of the machine's services.
			continue
		}
		if err != nil {
			return err
		}
		if err := unix.Mount(source, target, "", unix.MS_BIND|unix.MS_REC, ""); err != nil {
			// The kernel refuses a bind mount of what this user may not read, such as FUSE mounts.
			if errors.Is(err, unix.EACCES) || errors.Is(err, unix.EPERM) {
				continue
			}
			return fmt.Errorf("bind %s: %w", source, err)
		}
		if source != "/dev" {
			if err := readOnly(target); err != nil {
				return fmt.Errorf("%s: %w", source, err)
			}
		}
	}
	return nil
}

// replace replaces a bind-mounted directory with a writable one that has the same entries.
func (r rootfs) replace(directory string) error {
	from, err := filepath.Rel(r.path, directory)
	if err != nil {
		return err
	}
	// The tmpfs covers the directory in the new root, so the entries come from the machine's.
	from = filepath.Join("/", from)
	if err := unix.Mount("tmpfs", directory, "tmpfs", unix.MS_NOSUID|unix.MS_NODEV, "mode=755"); err != nil {
		return err
	}
	return r.mirror(from, directory, nil)
}

// bind mounts a file, directory or tmpfs, and creates the mount point if necessary.
func (r rootfs) bind(one bindMount) error {
	if one.Tmpfs != "" {
		target, err := r.place(one.Target, true)
		if err != nil {
			return err
		}
		return unix.Mount("tmpfs", target, "tmpfs", unix.MS_NOSUID|unix.MS_NODEV, one.Tmpfs)
	}
	info, err := os.Stat(one.Source)
	if err != nil {
		return err
	}
	target, err := r.place(one.Target, info.IsDir())
	if err != nil {
		return err
	}
	if err := unix.Mount(one.Source, target, "", unix.MS_BIND|unix.MS_REC, ""); err != nil {
		return err
	}
	if one.ReadOnly {
		return readOnly(target)
	}
	return nil
}

// place returns the file or directory at a path in the container, and creates it if it is missing.
// Symbolic links are resolved within the new root.
func (r rootfs) place(path string, directory bool) (string, error) {
	at := r.path
	rest := strings.Split(strings.Trim(filepath.Clean("/"+path), "/"), "/")
	for links := 0; len(rest) > 0; {
		name := rest[0]
		rest = rest[1:]
		if name == "" {
			continue
		}
		if name == ".." {
			if at != r.path {
				at = filepath.Dir(at)
			}
			continue
		}
		next := filepath.Join(at, name)
		info, err := os.Lstat(next)
		last := len(rest) == 0
		switch {
		case errors.Is(err, os.ErrNotExist):
			if err := r.make(at, next, directory || !last); err != nil {
				return "", err
			}
			at = next
		case err != nil:
			return "", err
		case info.Mode()&os.ModeSymlink != 0:
			if links++; links > linkLimit {
				return "", fmt.Errorf("%s: more than %d symbolic links", path, linkLimit)
			}
			link, err := os.Readlink(next)
			if err != nil {
				return "", err
			}
			if filepath.IsAbs(link) {
				at = r.path
			}
			rest = append(strings.Split(strings.Trim(filepath.Clean(link), "/"), "/"), rest...)
		default:
			at = next
		}
	}
	return at, nil
}

func (r rootfs) make(parent, path string, directory bool) error {
	create := func() error {
		if directory {
			return os.Mkdir(path, 0o755)
		}
		return touch(path)
	}
	err := create()
	if errors.Is(err, unix.EROFS) || errors.Is(err, unix.EACCES) {
		if err := r.replace(parent); err != nil {
			return err
		}
		return create()
	}
	return err
}

func touch(path string) error {
	file, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	return file.Close()
}

// readOnly makes a mount and all mounts below it read-only.
func readOnly(path string) error {
	return unix.MountSetattr(unix.AT_FDCWD, path, unix.AT_RECURSIVE, &unix.MountAttr{Attr_set: unix.MOUNT_ATTR_RDONLY})
}
