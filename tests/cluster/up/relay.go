package main

import (
	"io"
	"net"
	"time"
)

// relay forwards connections from outside the namespaces to an address inside. While nothing listens
// there, it closes them, as clients expect of an API server that is down.
func relay(listener net.Listener, address string) {
	for {
		client, err := listener.Accept()
		if err != nil {
			return
		}
		go func() {
			defer client.Close()
			server, err := net.DialTimeout("tcp", address, 5*time.Second)
			if err != nil {
				return
			}
			defer server.Close()
			done := make(chan struct{}, 2)
			pass := func(to, from net.Conn) {
				_, _ = io.Copy(to, from)
				// Close only one direction: the other side may still send data.
				_ = to.(*net.TCPConn).CloseWrite()
				done <- struct{}{}
			}
			go pass(server, client)
			go pass(client, server)
			<-done
			<-done
		}()
	}
}
