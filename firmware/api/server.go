package api

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
)

// Reply sends v as JSON, or err as an Error.
func Reply(w http.ResponseWriter, v any, err error) {
	status := http.StatusOK
	if err != nil {
		var e *Error
		if !errors.As(err, &e) {
			e = &Error{Message: err.Error()}
		}
		v, status = e, e.Status
		if status == 0 {
			status = http.StatusInternalServerError
		}
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	json.NewEncoder(w).Encode(v) // the client is gone when this fails
}

// NotFound answers requests that are not part of an API.
func NotFound(w http.ResponseWriter, r *http.Request) {
	Reply(w, nil, &Error{
		Status: http.StatusNotFound, Message: fmt.Sprintf("%s %s is not part of this API", r.Method, r.URL.Path),
		Hint: "are the client and the daemon of one version?",
	})
}
