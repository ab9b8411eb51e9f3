package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"syscall"

	"golang.org/x/sys/unix"
)

// Arguments with which this program runs as a helper process instead of as the kubelet.
const (
	becomeContainer = "become-container"
	enterContainer  = "enter-container"
)

const (
	// The helper reads its process spec from this descriptor.
	processSpecDescriptor = 3
	// become-container writes to this descriptor why the program could not be started.
	failureDescriptor = 4
	// The exit code that container runtimes report for a program that could not be started.
	notStarted = 128
)

// processSpec describes the program that a helper process runs, as a container or in one.
type processSpec struct {
	Root     string
	Mounts   []bindMount
	Hostname string
	Argv     []string
	Env      []string
	Dir      string
	// The pid of the first process in the container to enter.
	Target int
}

func readProcessSpec() (processSpec, error) {
	var given processSpec
	file := os.NewFile(processSpecDescriptor, "process-spec")
	defer file.Close()
	return given, json.NewDecoder(file).Decode(&given)
}

// runContainer sets up a container as process 1 of its namespaces, and then executes its program.
func runContainer() int {
	failure := os.NewFile(failureDescriptor, "failure")
	unix.CloseOnExec(failureDescriptor)
	err := func() error {
		given, err := readProcessSpec()
		if err != nil {
			return err
		}
		if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
			return err
		}
		root := rootfs{given.Root}
		if err := root.build(given.Mounts); err != nil {
			return err
		}
		// Container runtimes create a missing working directory.
		if _, err := root.place(given.Dir, true); err != nil {
			return err
		}
		if err := unix.Sethostname([]byte(given.Hostname)); err != nil {
			return err
		}
		if err := root.enter(); err != nil {
			return err
		}
		program, err := findProgram(given)
		if err != nil {
			return err
		}
		return syscall.Exec(program, given.Argv, given.Env)
	}()
	fmt.Fprint(failure, err)
	return notStarted
}

// findProgram looks for the program in the container's working directory and PATH.
func findProgram(given processSpec) (string, error) {
	if err := os.Chdir(given.Dir); err != nil {
		return "", err
	}
	for _, variable := range given.Env {
		if len(variable) > 5 && variable[:5] == "PATH=" {
			if err := os.Setenv("PATH", variable[5:]); err != nil {
				return "", err
			}
		}
	}
	program, err := exec.LookPath(given.Argv[0])
	if err != nil {
		return "", fmt.Errorf("exec: %q: executable file not found in $PATH", given.Argv[0])
	}
	return program, nil
}

// runEnter runs a program in an existing container.
func runEnter() int {
	status, err := func() (int, error) {
		given, err := readProcessSpec()
		if err != nil {
			return notStarted, err
		}
		// The kernel refuses a new mount namespace to a thread that shares its root and working directory.
		if err := unix.Unshare(unix.CLONE_FS); err != nil {
			return notStarted, err
		}
		var spaces []int
		for _, name := range []string{"net", "uts", "pid", "mnt"} {
			space, err := unix.Open(fmt.Sprintf("/proc/%d/ns/%s", given.Target, name), unix.O_RDONLY|unix.O_CLOEXEC, 0)
			if err != nil {
				return notStarted, fmt.Errorf("the container is gone: %w", err)
			}
			spaces = append(spaces, space)
		}
		for _, space := range spaces {
			if err := unix.Setns(space, 0); err != nil {
				return notStarted, err
			}
		}
		program, err := findProgram(given)
		if err != nil {
			return 127, err
		}
		command := exec.Cmd{
			Path: program, Args: given.Argv, Env: given.Env,
			Stdin: os.Stdin, Stdout: os.Stdout, Stderr: os.Stderr,
		}
		ends := make(chan os.Signal, 1)
		signal.Notify(ends, syscall.SIGTERM)
		if err := command.Start(); err != nil {
			return notStarted, err
		}
		go func() {
			<-ends
			_ = command.Process.Kill()
		}()
		err = command.Wait()
		var exit *exec.ExitError
		if errors.As(err, &exit) {
			return exitCode(exit.ProcessState), nil
		}
		return 0, err
	}()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		if status == 0 {
			return notStarted
		}
	}
	return status
}

// exitCode returns the exit code that a shell would report.
func exitCode(state *os.ProcessState) int {
	status := state.Sys().(syscall.WaitStatus)
	if status.Signaled() {
		return 128 + int(status.Signal())
	}
	return status.ExitStatus()
}

// helper returns a command that runs this program as a helper process. The process spec is sent through a
// pipe, because a command line is visible to other processes and its length is limited.
func helper(role string, given processSpec) (*exec.Cmd, func(), error) {
	reader, writer, err := os.Pipe()
	if err != nil {
		return nil, nil, err
	}
	text, err := json.Marshal(given)
	if err != nil {
		return nil, nil, err
	}
	go func() {
		_, _ = writer.Write(text)
		_ = writer.Close()
	}()
	command := exec.Command("/proc/self/exe", role)
	command.Env = []string{}
	command.ExtraFiles = []*os.File{reader}
	return command, func() { _ = reader.Close() }, nil
}

// startContainer starts a container. It also returns an error if its program cannot be started.
func startContainer(network *podNetwork, given processSpec, output io.Writer) (*exec.Cmd, func(), error) {
	command, started, err := helper(becomeContainer, given)
	if err != nil {
		return nil, nil, err
	}
	defer started()
	failure, report, err := os.Pipe()
	if err != nil {
		return nil, nil, err
	}
	defer failure.Close()
	lines, writer, err := os.Pipe()
	if err != nil {
		return nil, nil, err
	}
	command.ExtraFiles = append(command.ExtraFiles, report)
	command.Stdout, command.Stderr = writer, writer
	command.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags: syscall.CLONE_NEWNS | syscall.CLONE_NEWPID | syscall.CLONE_NEWUTS,
		Setsid:     true,
		// The container ends with its kubelet. The next kubelet starts it again.
		Pdeathsig: syscall.SIGKILL,
	}
	err = network.within(command.Start)
	_ = report.Close()
	_ = writer.Close()
	if err != nil {
		_ = lines.Close()
		return nil, nil, err
	}
	copied := make(chan struct{})
	go func() {
		_, _ = io.Copy(output, lines)
		_ = lines.Close()
		close(copied)
	}()
	finish := func() { <-copied }
	// The descriptor is closed when the helper executes the program.
	if reason, _ := io.ReadAll(failure); len(reason) > 0 {
		_ = command.Wait()
		finish()
		return nil, nil, errors.New(string(reason))
	}
	return command, finish, nil
}
