// What a vCenter does at /folder and the simulator does not:
//
//   - only who has logged in is served, by the session's cookie or by name and password;
//   - dcPath and dsName are decoded once more than the query is;
//   - they are names, whatever characters are in them, and no patterns.
//
// A file of faults tells what goes wrong: each request takes a line of it, as long as there is one.
package main

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/vmware/govmomi/simulator"
)

const stall = 60 * time.Second

type folder struct {
	shim   *shim
	user   *url.Userinfo
	faults string // a file; "": none
	mutex  sync.Mutex
}

func (f *folder) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if !strings.HasPrefix(r.URL.Path, "/folder") || r.Method == http.MethodPost {
		f.shim.ServeHTTP(w, r)
		return
	}
	if !f.isKnown(r) {
		w.Header().Set("WWW-Authenticate", `Basic realm="VMware HTTP server"`)
		http.Error(w, "log in", http.StatusUnauthorized)
		return
	}
	store := f.find(r.URL.Query())
	if store == nil {
		http.Error(w, "no such datastore", http.StatusNotFound)
		return
	}
	files := http.StripPrefix("/folder", http.FileServer(http.Dir(store.Info.GetDatastoreInfo().Url)))
	switch fault := f.next(); fault {
	case "":
		files.ServeHTTP(w, r)
	case "short":
		answer := httptest.NewRecorder()
		files.ServeHTTP(answer, r)
		for key, values := range answer.Header() {
			w.Header()[key] = values
		}
		w.WriteHeader(answer.Code)
		w.Write(answer.Body.Bytes()[:answer.Body.Len()/2])
		panic(http.ErrAbortHandler)
	case "stall":
		select {
		case <-r.Context().Done():
		case <-time.After(stall):
		}
		panic(http.ErrAbortHandler)
	default:
		var status int
		fmt.Sscan(fault, &status)
		http.Error(w, "as told", status)
	}
}

func (f *folder) find(query url.Values) *simulator.Datastore {
	center, err := url.PathUnescape(query.Get("dcPath"))
	name, err2 := url.PathUnescape(query.Get("dsName"))
	if err != nil || err2 != nil {
		return nil
	}
	for _, entity := range simulator.Map.All("Datacenter") {
		if entity.Entity().Name != strings.TrimPrefix(center, "/") {
			continue
		}
		for _, reference := range entity.(*simulator.Datacenter).Datastore {
			store := simulator.Map.Get(reference).(*simulator.Datastore)
			if store.Name == name {
				return store
			}
		}
	}
	return nil
}

func (f *folder) isKnown(r *http.Request) bool {
	name, password, given := r.BasicAuth()
	if given {
		wanted, _ := f.user.Password()
		return name == f.user.Username() && password == wanted
	}
	return f.shim.isLoggedIn(r)
}

// Take a line from the file of faults.
func (f *folder) next() string {
	if f.faults == "" {
		return ""
	}
	f.mutex.Lock()
	defer f.mutex.Unlock()
	text, err := os.ReadFile(f.faults)
	if err != nil || len(text) == 0 {
		return ""
	}
	line, rest, _ := strings.Cut(string(text), "\n")
	os.WriteFile(f.faults, []byte(rest), 0o600)
	return line
}
