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

// The longest piece of a line that is kept together, as container runtimes have it.
const logChunk = 16 << 10

// containerLog is the output of one run of a container: a file whose lines begin with the time and
// with F, or P for a piece that the next line goes on with.
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

// Write takes what the container printed.
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

// finish ends the log: who follows it sees its end.
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

// logOptions are those of a pod's log in the API.
type logOptions struct {
	follow     bool
	timestamps bool
	since      time.Time
	tail       int64 // negative: everything
	limit      int64 // negative: none
}

var errLogLimit = errors.New("the limit is reached")

// copyTo writes the log, and what is added to it where it is followed.
func (l *containerLog) copyTo(ctx context.Context, to io.Writer, wanted logOptions) error {
	file, err := os.Open(l.path)
	if err != nil {
		return err
	}
	defer file.Close()
	if wanted.tail >= 0 {
		offset, err := tailOffset(file, wanted.tail)
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
		if err := copyLines(lines, to, &wanted); err != nil {
			if errors.Is(err, errLogLimit) {
				return nil
			}
			return err
		}
		if !wanted.follow || closed {
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

// copyLines writes what whole lines there are: the file is always written a whole line at a time.
func copyLines(lines *bufio.Reader, to io.Writer, wanted *logOptions) error {
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
		if !wanted.since.IsZero() {
			if moment, err := time.Parse(time.RFC3339Nano, string(stamp)); err == nil && moment.Before(wanted.since) {
				continue
			}
		}
		if string(kind) == "P" {
			text = bytes.TrimSuffix(text, []byte("\n"))
		}
		if wanted.timestamps {
			text = append(append(bytes.Clone(stamp), ' '), text...)
		}
		if wanted.limit >= 0 && int64(len(text)) > wanted.limit {
			text = text[:wanted.limit]
		}
		if _, err := to.Write(text); err != nil {
			return err
		}
		if wanted.limit >= 0 {
			if wanted.limit -= int64(len(text)); wanted.limit == 0 {
				return errLogLimit
			}
		}
	}
}

// tailOffset is where the last so many lines begin.
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
