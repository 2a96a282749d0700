package server

import (
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"time"
)

// blobPath is that of a blob in the distribution API.
var blobPath = regexp.MustCompile(`/blobs/sha256:([0-9a-f]{64})$`)

// blobs sends blobs from the disk. The library answers the same question as HEAD first: whether the token opens the
// repository, whether the blob is linked to it, and with which headers. Its own way to send one takes a buffer of 4 MiB for
// each, which was most of the memory and of the time when thousands fetch a policy at once.
func (s *Server) blobs(registry http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		m := blobPath.FindStringSubmatch(r.URL.Path)
		if r.Method != http.MethodGet || m == nil {
			registry.ServeHTTP(w, r)
			return
		}
		head := r.Clone(r.Context())
		head.Method = http.MethodHead
		head.Header.Del("Range")
		answer := &headers{header: http.Header{}, status: http.StatusOK}
		registry.ServeHTTP(answer, head)
		// The library's layout: docker/registry/v2/blobs/<algorithm>/<first two digits>/<digits>/data.
		f, err := os.Open(filepath.Join(s.registry, "docker/registry/v2/blobs/sha256", m[1][:2], m[1], "data"))
		if answer.status != http.StatusOK || err != nil {
			if err == nil {
				f.Close()
			}
			registry.ServeHTTP(w, r) // it says why not
			return
		}
		defer f.Close()
		for name, values := range answer.header {
			if name != "Content-Length" {
				w.Header()[name] = values
			}
		}
		http.ServeContent(w, r, "", time.Time{}, f)
	})
}

// headers keeps an answer without its body.
type headers struct {
	header http.Header
	status int
}

func (h *headers) Header() http.Header         { return h.header }
func (h *headers) WriteHeader(status int)      { h.status = status }
func (h *headers) Write(p []byte) (int, error) { return len(p), nil }
