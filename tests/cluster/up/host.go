package main

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// prepareHost makes the namespaces into a machine: process table, network, name resolution.
func prepareHost(at places) error {
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("mounts could not be made private: %w", err)
	}
	if err := unix.Mount("proc", "/proc", "proc", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, ""); err != nil {
		return fmt.Errorf("/proc could not be mounted (in a container, parts of it may be masked): %w", err)
	}
	if err := unix.Sethostname([]byte(nodeName)); err != nil {
		return err
	}
	if err := network(); err != nil {
		return fmt.Errorf("network: %w", err)
	}
	resolver := "nameserver " + nodeIP + "\nsearch svc." + clusterDomain + " " + clusterDomain + "\noptions ndots:5\n"
	hosts := "127.0.0.1 localhost\n" + nodeIP + " " + nodeName + "\n"
	for file, content := range map[string]struct{ path, text string }{
		"/etc/resolv.conf": {at.resolvConf, resolver},
		"/etc/hosts":       {at.hosts, hosts},
	} {
		if err := os.WriteFile(content.path, []byte(content.text), 0o644); err != nil {
			return err
		}
		// The file may be a link to one that only exists while some service runs.
		target, err := filepath.EvalSymlinks(file)
		if err != nil {
			continue
		}
		if err := unix.Mount(content.path, target, "", unix.MS_BIND, ""); err != nil {
			return fmt.Errorf("%s: %w", file, err)
		}
	}
	return nil
}

// network brings up the bridge that pods are connected to. The node and the API server have their
// addresses on it: the API server's is the first of the services', so that the service `kubernetes`
// works without a kube-proxy.
func network() error {
	loopback, err := netlink.LinkByName("lo")
	if err != nil {
		return err
	}
	if err := netlink.LinkSetUp(loopback); err != nil {
		return err
	}
	attributes := netlink.NewLinkAttrs()
	attributes.Name = bridge
	// Without one of its own a bridge takes the lowest address of its ports, so that it changes as
	// pods come and go, and their neighbour tables lead nowhere for a while.
	attributes.HardwareAddr = net.HardwareAddr{0x02, 0x00, 0x0a, 0x2a, 0x00, 0x01}
	link := &netlink.Bridge{LinkAttrs: attributes}
	if err := netlink.LinkAdd(link); err != nil {
		return fmt.Errorf("the bridge: %w", err)
	}
	_, size, err := net.ParseCIDR(podCIDR)
	if err != nil {
		return err
	}
	for _, address := range []*net.IPNet{
		{IP: net.ParseIP(nodeIP), Mask: size.Mask},
		{IP: net.ParseIP(kubernetesIP), Mask: net.CIDRMask(32, 32)},
	} {
		if err := netlink.AddrAdd(link, &netlink.Addr{IPNet: address}); err != nil {
			return fmt.Errorf("%s: %w", address, err)
		}
	}
	return netlink.LinkSetUp(link)
}

// reapOrphans ends what became a child of process 1 because its parent died. The programs' own ends
// are waited for where they were started, within moments: only what is still there later is taken.
func reapOrphans() {
	last := 0
	for range time.Tick(2 * time.Second) {
		for {
			var info unix.Siginfo
			err := unix.Waitid(unix.P_ALL, 0, &info, unix.WEXITED|unix.WNOHANG|unix.WNOWAIT, nil)
			pid := pidOf(&info)
			if err != nil || pid == 0 {
				last = 0
				break
			}
			if pid != last {
				last = pid
				break
			}
			if _, err := syscall.Wait4(pid, nil, syscall.WNOHANG, nil); errors.Is(err, syscall.ECHILD) {
				break
			}
		}
	}
}
