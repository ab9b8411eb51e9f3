package main

import (
	"encoding/json"
	"net"
	"net/http"
	"os"
	"syscall"
)

// serveControl lets tests break the control plane: a socket in the state directory, which can be
// reached from outside because files are not in a namespace of their own.
//
//	GET  /programs
//	POST /programs/NAME/kill    SIGKILL; it is started again
//	POST /programs/NAME/stop    SIGTERM; it stays away
//	POST /programs/NAME/start
func serveControl(socket string, programs map[string]*program) error {
	listener, err := net.Listen("unix", socket)
	if err != nil {
		return err
	}
	if err := os.Chmod(socket, 0o600); err != nil {
		return err
	}
	routes := http.NewServeMux()
	routes.HandleFunc("GET /programs", func(answer http.ResponseWriter, _ *http.Request) {
		states := map[string]programState{}
		for name, one := range programs {
			states[name] = one.state()
		}
		answer.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(answer).Encode(states)
	})
	routes.HandleFunc("POST /programs/{name}/{action}", func(answer http.ResponseWriter, request *http.Request) {
		one, found := programs[request.PathValue("name")]
		if !found {
			http.Error(answer, "no such program", http.StatusNotFound)
			return
		}
		switch request.PathValue("action") {
		case "kill":
			one.signal(syscall.SIGKILL, false)
		case "stop":
			one.signal(syscall.SIGTERM, true)
		case "start":
			one.start()
		default:
			http.Error(answer, "no such action", http.StatusNotFound)
		}
	})
	go func() { _ = http.Serve(listener, routes) }()
	return nil
}
