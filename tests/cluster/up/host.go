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

// prepareHost sets up the namespaces: /proc, the hostname, the network and name resolution.
func prepareHost(at statePaths) error {
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("cannot make mounts private: %w", err)
	}
	if err := unix.Mount("proc", "/proc", "proc", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, ""); err != nil {
		return fmt.Errorf("cannot mount /proc (a container runtime may mask parts of it): %w", err)
	}
	if err := unix.Sethostname([]byte(nodeName)); err != nil {
		return err
	}
	if err := network(); err != nil {
		return fmt.Errorf("cannot set up the network: %w", err)
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
		// The file may be a link to a file that exists only while a service runs.
		target, err := filepath.EvalSymlinks(file)
		if err != nil {
			continue
		}
		if err := unix.Mount(content.path, target, "", unix.MS_BIND, ""); err != nil {
			return fmt.Errorf("cannot mount over %s: %w", file, err)
		}
	}
	return nil
}

// network brings up the bridge that connects the pods. The node and the API server have addresses on
// it. The API server's address is the first service address, so that the service `kubernetes` works
// without a kube-proxy.
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
	// By default a bridge takes the lowest hardware address of its ports. It would change with the
	// pods, and entries in their neighbor tables would be wrong for a while.
	attributes.HardwareAddr = net.HardwareAddr{0x02, 0x00, 0x0a, 0x2a, 0x00, 0x01}
	link := &netlink.Bridge{LinkAttrs: attributes}
	if err := netlink.LinkAdd(link); err != nil {
		return fmt.Errorf("cannot create the bridge: %w", err)
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
			return fmt.Errorf("cannot add the address %s: %w", address, err)
		}
	}
	return netlink.LinkSetUp(link)
}

// reapOrphans reaps zombies that process 1 inherited because their parents died. The goroutines that
// started the programs wait for them, so only a zombie that is still there two seconds later is
// reaped.
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
