package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"time"
)

// The longest piece of a line that container runtimes write at once, in bytes.
const logChunk = 16 << 10

// containerLog is the file with the output of one run of a container. Each line begins with the time
// and F, or P if the next line continues it.
type containerLog struct {
	path string

	mu      sync.Mutex
	file    *os.File
	partial []byte
	changed chan struct{}
	closed  bool
}

func newContainerLog(path string) (*containerLog, error) {
	file, err := os.OpenFile(path, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, err
	}
	return &containerLog{path: path, file: file, changed: make(chan struct{})}, nil
}

// Write appends output of the container.
func (l *containerLog) Write(text []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.partial = append(l.partial, text...)
	stamp := time.Now().UTC().Format(time.RFC3339Nano)
	var lines bytes.Buffer
	for {
		end := bytes.IndexByte(l.partial, '\n')
		if end >= 0 && end <= logChunk {
			fmt.Fprintf(&lines, "%s F %s\n", stamp, l.partial[:end])
			l.partial = l.partial[end+1:]
		} else if len(l.partial) > logChunk {
			fmt.Fprintf(&lines, "%s P %s\n", stamp, l.partial[:logChunk])
			l.partial = l.partial[logChunk:]
		} else {
			break
		}
	}
	return len(text), l.flush(lines.Bytes())
}

func (l *containerLog) flush(lines []byte) error {
	if len(lines) == 0 {
		return nil
	}
	_, err := l.file.Write(lines)
	close(l.changed)
	l.changed = make(chan struct{})
	return err
}

// finish closes the log, which also ends all requests that follow it.
func (l *containerLog) finish() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return
	}
	if len(l.partial) > 0 {
		_ = l.flush(fmt.Appendf(nil, "%s P %s\n", time.Now().UTC().Format(time.RFC3339Nano), l.partial))
	}
	l.closed = true
	close(l.changed)
	_ = l.file.Close()
}

func (l *containerLog) state() (changed <-chan struct{}, closed bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.changed, l.closed
}

// logOptions are the query options of a pod's log in the Kubernetes API.
type logOptions struct {
	follow     bool
	timestamps bool
	since      time.Time
	tail       int64 // lines; negative: all
	limit      int64 // bytes; negative: no limit
}

var errLogLimit = errors.New("the byte limit of the log is reached")

// copyTo writes the log to a writer. With follow, it continues until the log or the context ends.
func (l *containerLog) copyTo(ctx context.Context, to io.Writer, options logOptions) error {
	file, err := os.Open(l.path)
	if err != nil {
		return err
	}
	defer file.Close()
	if options.tail >= 0 {
		offset, err := tailOffset(file, options.tail)
		if err != nil {
			return err
		}
		if _, err := file.Seek(offset, io.SeekStart); err != nil {
			return err
		}
	}
	lines := bufio.NewReaderSize(file, 4*logChunk)
	for {
		changed, closed := l.state()
		if err := copyLines(lines, to, &options); err != nil {
			if errors.Is(err, errLogLimit) {
				return nil
			}
			return err
		}
		if !options.follow || closed {
			return nil
		}
		if flusher, ok := to.(interface{ Flush() }); ok {
			flusher.Flush()
		}
		select {
		case <-ctx.Done():
			return nil
		case <-changed:
		}
	}
}

// copyLines writes the remaining lines. The file never ends within a line.
func copyLines(lines *bufio.Reader, to io.Writer, options *logOptions) error {
	for {
		line, err := lines.ReadBytes('\n')
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		stamp, rest, _ := bytes.Cut(line, []byte(" "))
		kind, text, _ := bytes.Cut(rest, []byte(" "))
		if !options.since.IsZero() {
			if moment, err := time.Parse(time.RFC3339Nano, string(stamp)); err == nil && moment.Before(options.since) {
				continue
			}
		}
		if string(kind) == "P" {
			text = bytes.TrimSuffix(text, []byte("\n"))
		}
		if options.timestamps {
			text = append(append(bytes.Clone(stamp), ' '), text...)
		}
		if options.limit >= 0 && int64(len(text)) > options.limit {
			text = text[:options.limit]
		}
		if _, err := to.Write(text); err != nil {
			return err
		}
		if options.limit >= 0 {
			if options.limit -= int64(len(text)); options.limit == 0 {
				return errLogLimit
			}
		}
	}
}

// tailOffset returns the offset in bytes at which the last count lines begin.
func tailOffset(file *os.File, count int64) (int64, error) {
	starts := []int64{}
	lines := bufio.NewReaderSize(file, 4*logChunk)
	offset, begins := int64(0), true
	for {
		line, err := lines.ReadBytes('\n')
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return 0, err
		}
		if begins {
			starts = append(starts, offset)
		}
		_, rest, _ := bytes.Cut(line, []byte(" "))
		begins = !bytes.HasPrefix(rest, []byte("P "))
		offset += int64(len(line))
	}
	if int64(len(starts)) <= count {
		return 0, nil
	}
	if count == 0 {
		return offset, nil
	}
	return starts[int64(len(starts))-count], nil
}
