package main

import (
	"encoding/binary"
	"errors"
	"io"
	"net"
	"net/netip"
	"strings"
	"time"

	"golang.org/x/net/dns/dnsmessage"
	core "k8s.io/api/core/v1"
	discovery "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/labels"
)

const (
	// The longest UDP response that every client accepts, in bytes.
	datagram = 512
	// Addresses change within a test, so clients must not cache them.
	timeToLive = 0
)

// serveDNS resolves the names of services and pods. There is no kube-proxy, so a service with a cluster
// IP resolves to its endpoints, and its port must be its target port.
func (k *kubelet) serveDNS() error {
	// Creates the informers before the factory starts, so that it watches these objects.
	k.informers.Core().V1().Services().Informer()
	k.informers.Discovery().V1().EndpointSlices().Informer()
	at := net.JoinHostPort(k.nodeIP, "53")
	packets, err := net.ListenPacket("udp", at)
	if err != nil {
		return err
	}
	streams, err := net.Listen("tcp", at)
	if err != nil {
		return err
	}
	go func() {
		buffer := make([]byte, 4096)
		for {
			size, client, err := packets.ReadFrom(buffer)
			if errors.Is(err, net.ErrClosed) {
				return
			}
			if err != nil {
				continue
			}
			if answer := k.answer(buffer[:size], datagram); answer != nil {
				_, _ = packets.WriteTo(answer, client)
			}
		}
	}()
	go func() {
		for {
			client, err := streams.Accept()
			if err != nil {
				return
			}
			go k.answerStream(client)
		}
	}()
	return nil
}

func (k *kubelet) answerStream(client net.Conn) {
	defer client.Close()
	for {
		_ = client.SetDeadline(time.Now().Add(10 * time.Second))
		var size uint16
		if binary.Read(client, binary.BigEndian, &size) != nil {
			return
		}
		question := make([]byte, size)
		if _, err := io.ReadFull(client, question); err != nil {
			return
		}
		answer := k.answer(question, 1<<16-1)
		if answer == nil {
			return
		}
		if _, err := client.Write(append(binary.BigEndian.AppendUint16(nil, uint16(len(answer))), answer...)); err != nil {
			return
		}
	}
}

func (k *kubelet) answer(question []byte, limit int) []byte {
	var parser dnsmessage.Parser
	header, err := parser.Start(question)
	if err != nil {
		return nil
	}
	asked, err := parser.Question()
	if err != nil {
		return nil
	}
	addresses, known := k.lookup(strings.ToLower(strings.TrimSuffix(asked.Name.String(), ".")))
	reply := dnsmessage.Message{
		Header: dnsmessage.Header{
			ID: header.ID, Response: true, Authoritative: true, RecursionDesired: header.RecursionDesired, RecursionAvailable: true,
		},
		Questions: []dnsmessage.Question{asked},
	}
	if !known {
		reply.RCode = dnsmessage.RCodeNameError
	}
	if asked.Type == dnsmessage.TypeA {
		for _, address := range addresses {
			reply.Answers = append(reply.Answers, dnsmessage.Resource{
				Header: dnsmessage.ResourceHeader{Name: asked.Name, Type: dnsmessage.TypeA, Class: dnsmessage.ClassINET, TTL: timeToLive},
				Body:   &dnsmessage.AResource{A: address.As4()},
			})
		}
	}
	packed, err := reply.Pack()
	if err == nil && len(packed) > limit {
		reply.Truncated, reply.Answers = true, nil
		packed, err = reply.Pack()
	}
	if err != nil {
		return nil
	}
	return packed
}

// lookup returns the addresses of a name and whether it exists. An existing name may have no address.
func (k *kubelet) lookup(name string) ([]netip.Addr, bool) {
	if name == k.node {
		return parse(k.nodeIP), true
	}
	rest, local := strings.CutSuffix(name, "."+k.domain)
	if !local {
		return nil, false
	}
	parts := strings.Split(rest, ".")
	if len(parts) == 3 && parts[2] == "pod" {
		return parse(strings.ReplaceAll(parts[0], "-", ".")), true
	}
	host := ""
	if len(parts) == 4 {
		host, parts = parts[0], parts[1:]
	}
	if len(parts) != 3 || parts[2] != "svc" {
		return nil, false
	}
	service, namespace := parts[0], parts[1]
	found, err := k.informers.Core().V1().Services().Lister().Services(namespace).Get(service)
	if err != nil {
		return nil, false
	}
	if found.Spec.ClusterIP == k.kubernetesIP {
		return parse(k.kubernetesIP), true
	}
	return k.endpoints(found, host)
}

func (k *kubelet) endpoints(service *core.Service, host string) ([]netip.Addr, bool) {
	slices, err := k.informers.Discovery().V1().EndpointSlices().Lister().EndpointSlices(service.Namespace).
		List(labels.SelectorFromSet(labels.Set{discovery.LabelServiceName: service.Name}))
	if err != nil {
		return nil, false
	}
	var addresses []netip.Addr
	for _, slice := range slices {
		for _, endpoint := range slice.Endpoints {
			if endpoint.Conditions.Ready != nil && !*endpoint.Conditions.Ready {
				continue
			}
			if host != "" && (endpoint.Hostname == nil || *endpoint.Hostname != host) {
				continue
			}
			for _, address := range endpoint.Addresses {
				addresses = append(addresses, parse(address)...)
			}
		}
	}
	// A headless service without endpoints does not exist yet, as in CoreDNS.
	return addresses, len(addresses) > 0
}

func parse(text string) []netip.Addr {
	address, err := netip.ParseAddr(text)
	if err != nil || !address.Is4() {
		return nil
	}
	return []netip.Addr{address}
}
