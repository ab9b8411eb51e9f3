package main

import (
	"encoding/json"
	"net"
	"net/http"
	"os"
	"strconv"
	"syscall"
)

// serveControl serves the Unix socket through which tests break the control plane. The socket is in
// the state directory, which processes outside the namespaces can also access.
//
//	GET  /programs              the programState of each program
//	POST /programs/NAME/kill    sends SIGKILL; the program is started again
//	POST /programs/NAME/stop    sends SIGTERM; the program is not started again
//	POST /programs/NAME/start   starts a stopped program
func serveControl(socket string, programs map[string]*program) error {
	listener, err := net.Listen("unix", socket)
	if err != nil {
		return err
	}
	if err := os.Chmod(socket, 0o600); err != nil {
		return err
	}
	routes := http.NewServeMux()
	routes.HandleFunc("GET /programs", func(response http.ResponseWriter, _ *http.Request) {
		states := map[string]programState{}
		for name, one := range programs {
			states[name] = one.state()
		}
		response.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(response).Encode(states)
	})
	routes.HandleFunc("POST /programs/{name}/{action}", func(response http.ResponseWriter, request *http.Request) {
		one, found := programs[request.PathValue("name")]
		if !found {
			http.Error(response, "no program "+strconv.Quote(request.PathValue("name"))+"; GET /programs lists them", http.StatusNotFound)
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
			http.Error(response, "no action "+strconv.Quote(request.PathValue("action"))+"; write kill, stop or start", http.StatusNotFound)
		}
	})
	go func() { _ = http.Serve(listener, routes) }()
	return nil
}
