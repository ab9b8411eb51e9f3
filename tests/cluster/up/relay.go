package main

import (
	"io"
	"net"
	"time"
)

// relay passes connections made outside on to an address in here. While nothing listens there it
// hangs up, which is what a client sees of an API server that is down.
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
				// Half a connection may go on: the other side may still have something to say.
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
