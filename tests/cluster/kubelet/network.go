package main

import (
	"fmt"
	"net"
	"runtime"
	"sync"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
)

// podNetworks assigns addresses and connects pods to the bridge.
type podNetworks struct {
	bridge  netlink.Link
	gateway net.IP
	size    *net.IPNet
	home    netns.NsHandle

	mu   sync.Mutex
	next int
	held map[string]bool
}

// podNetwork is a network namespace with one address.
type podNetwork struct {
	all  *podNetworks
	ns   netns.NsHandle
	link string
	ip   string
}

func newPodNetworks(bridge, cidr, gateway string) (*podNetworks, error) {
	link, err := netlink.LinkByName(bridge)
	if err != nil {
		return nil, fmt.Errorf("bridge %s: %w", bridge, err)
	}
	_, size, err := net.ParseCIDR(cidr)
	if err != nil {
		return nil, err
	}
	home, err := netns.Get()
	if err != nil {
		return nil, err
	}
	return &podNetworks{
		bridge: link, gateway: net.ParseIP(gateway), size: size, home: home,
		next: 1, held: map[string]bool{gateway: true},
	}, nil
}

// address returns the next free address and its number. Addresses are reused as late as possible, so
// that a client with the address of a deleted pod does not reach another pod.
func (n *podNetworks) address() (net.IP, int, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	ones, bits := n.size.Mask.Size()
	count := 1<<(bits-ones) - 2
	for range count {
		n.next = n.next%count + 1
		address := make(net.IP, 4)
		copy(address, n.size.IP.To4())
		address[2] += byte(n.next >> 8)
		address[3] += byte(n.next)
		if !n.held[address.String()] {
			n.held[address.String()] = true
			return address, n.next, nil
		}
	}
	return nil, 0, fmt.Errorf("all addresses of %s are in use", n.size)
}

// open creates the network of a pod.
func (n *podNetworks) open() (*podNetwork, error) {
	address, number, err := n.address()
	if err != nil {
		return nil, err
	}
	made := &podNetwork{all: n, link: fmt.Sprintf("pod%d", number), ip: address.String(), ns: netns.None()}
	if err := made.connect(address); err != nil {
		made.close()
		return nil, err
	}
	return made, nil
}

func (p *podNetwork) connect(address net.IP) error {
	var err error
	if p.ns, err = newNamespace(p.all.home); err != nil {
		return err
	}
	attributes := netlink.NewLinkAttrs()
	attributes.Name = p.link
	attributes.MasterIndex = p.all.bridge.Attrs().Index
	pair := &netlink.Veth{LinkAttrs: attributes, PeerName: "eth0", PeerNamespace: netlink.NsFd(p.ns)}
	if err := netlink.LinkAdd(pair); err != nil {
		return fmt.Errorf("%s: %w", p.link, err)
	}
	if err := netlink.LinkSetUp(pair); err != nil {
		return err
	}
	inside, err := netlink.NewHandleAt(p.ns)
	if err != nil {
		return err
	}
	defer inside.Close()
	for _, name := range []string{"lo", "eth0"} {
		link, err := inside.LinkByName(name)
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		if name == "eth0" {
			own := &net.IPNet{IP: address, Mask: p.all.size.Mask}
			if err := inside.AddrAdd(link, &netlink.Addr{IPNet: own}); err != nil {
				return fmt.Errorf("%s: %w", own, err)
			}
		}
		if err := inside.LinkSetUp(link); err != nil {
			return err
		}
	}
	return inside.RouteAdd(&netlink.Route{Gw: p.all.gateway})
}

func newNamespace(home netns.NsHandle) (netns.NsHandle, error) {
	runtime.LockOSThread()
	made, err := netns.New()
	if err != nil {
		runtime.UnlockOSThread()
		return netns.None(), err
	}
	// A thread that cannot return to its namespace stays locked, and so ends with its goroutine.
	if err := netns.Set(home); err != nil {
		return made, err
	}
	runtime.UnlockOSThread()
	return made, nil
}

// within runs a function on a thread in the pod's network namespace.
func (p *podNetwork) within(work func() error) error {
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		if err := netns.Set(p.ns); err != nil {
			done <- err
			return
		}
		err := work()
		if netns.Set(p.all.home) == nil {
			runtime.UnlockOSThread()
		}
		done <- err
	}()
	return <-done
}

// close frees the address. The kernel removes the namespace with its last process.
func (p *podNetwork) close() {
	if p.ns.IsOpen() {
		if link, err := netlink.LinkByName(p.link); err == nil {
			_ = netlink.LinkDel(link)
		}
		_ = p.ns.Close()
	}
	p.all.mu.Lock()
	delete(p.all.held, p.ip)
	p.all.mu.Unlock()
}
