package agent

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"time"
)

const (
	maxBody     = 512 << 10
	maxHeaders  = 64
	httpTimeout = 10 * time.Second
)

// httpRequest speaks HTTP/1.0 to a server on a Unix socket. Version 1.0 makes the server send a plain body and
// close (RFC 9112 6.1 forbids it to use chunks), so that the agent does without net/http, which would double its size.
func httpRequest(ctx context.Context, p HTTPParams) (HTTPResult, error) {
	if p.Method == "" {
		p.Method = "GET"
	}
	if strings.ContainsAny(p.Method+p.Path, " \r\n") || !strings.HasPrefix(p.Path, "/") {
		return HTTPResult{}, fmt.Errorf("%q %q is not a method and a path", p.Method, p.Path)
	}
	var d net.Dialer
	conn, err := d.DialContext(ctx, "unix", p.Socket)
	if err != nil {
		return HTTPResult{}, err
	}
	defer conn.Close()
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	defer stop()
	if err := conn.SetDeadline(time.Now().Add(httpTimeout)); err != nil {
		return HTTPResult{}, err
	}
	head := fmt.Sprintf("%s %s HTTP/1.0\r\nHost: local\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n",
		p.Method, p.Path, len(p.Body))
	if _, err := io.WriteString(conn, head+p.Body); err != nil {
		return HTTPResult{}, fmt.Errorf("send request: %w", err)
	}
	return readResponse(conn)
}

// readResponse reads an HTTP/1.x response whose body ends with the connection or at Content-Length.
func readResponse(r io.Reader) (HTTPResult, error) {
	br := bufio.NewReaderSize(io.LimitReader(r, maxBody+1<<16), 8192)
	status, err := headerLine(br)
	if err != nil {
		return HTTPResult{}, fmt.Errorf("read status line: %w", err)
	}
	version, rest, _ := strings.Cut(status, " ")
	number, _, _ := strings.Cut(rest, " ")
	code, err := strconv.Atoi(number)
	if err != nil || !strings.HasPrefix(version, "HTTP/1.") || code < 100 || code > 999 {
		return HTTPResult{}, fmt.Errorf("status line %q is not HTTP/1.x", status)
	}
	length := int64(-1)
	for range maxHeaders {
		line, err := headerLine(br)
		if err != nil {
			return HTTPResult{}, fmt.Errorf("read headers: %w", err)
		}
		if line == "" {
			return readBody(br, code, length)
		}
		name, value, _ := strings.Cut(line, ":")
		value = strings.TrimSpace(value)
		switch strings.ToLower(name) {
		case "content-length":
			if length, err = strconv.ParseInt(value, 10, 64); err != nil || length < 0 || length > maxBody {
				return HTTPResult{}, fmt.Errorf("Content-Length %q: want 0 to %d", value, maxBody)
			}
		case "transfer-encoding":
			return HTTPResult{}, fmt.Errorf("Transfer-Encoding %q in an answer to HTTP/1.0", value)
		}
	}
	return HTTPResult{}, fmt.Errorf("more than %d headers", maxHeaders)
}

func readBody(r io.Reader, code int, length int64) (HTTPResult, error) {
	limit := int64(maxBody + 1)
	if length >= 0 {
		limit = length
	}
	b, err := io.ReadAll(io.LimitReader(r, limit))
	if err != nil {
		return HTTPResult{}, fmt.Errorf("read body: %w", err)
	}
	if len(b) > maxBody {
		return HTTPResult{}, fmt.Errorf("body is longer than %d bytes", maxBody)
	}
	if int64(len(b)) < length {
		return HTTPResult{}, fmt.Errorf("body ended after %d of %d bytes: %w", len(b), length, io.ErrUnexpectedEOF)
	}
	return HTTPResult{Status: code, Body: string(b)}, nil
}

func headerLine(r *bufio.Reader) (string, error) {
	b, err := r.ReadSlice('\n')
	if errors.Is(err, io.EOF) {
		err = io.ErrUnexpectedEOF
	}
	if err != nil {
		return "", err
	}
	return strings.TrimRight(string(b), "\r\n"), nil
}
