// What the simulator lacks, or does otherwise than a vCenter, put right around its handler for /sdk:
//
//   - a property that is not set is left out of the answer (the simulator panics);
//   - the task of a snapshot's removal names the machine, and removing one deletes no disk;
//   - AuthorizationManager.DisableMethods and EnableMethods, which the simulator does not know.
//
// Every call that changes something is written to a log, a line of JSON each.
package main

import (
	"bytes"
	"encoding/json"
	"encoding/xml"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"strings"
	"sync"

	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/types"
)

// A SOAP request, as far as it matters here.
type request struct {
	Body struct {
		Call struct {
			XMLName xml.Name
			This    reference `xml:"_this"`
			Prop    string    `xml:"prop"`
			Name    string    `xml:"name"`
			Entity  reference `xml:"entity"`
			Source  string    `xml:"sourceId"`
			Methods []struct {
				Text   string `xml:",chardata"`
				Method string `xml:"method"`
			} `xml:"method"`
		} `xml:",any"`
	}
}

type reference struct {
	Type  string `xml:"type,attr"`
	Value string `xml:",chardata"`
}

// A call in the log.
type call struct {
	Method string `json:"method"`
	This   string `json:"this"`
	Entity string `json:"entity,omitempty"`
	Name   string `json:"name,omitempty"`
	Source string `json:"source,omitempty"`
	OK     bool   `json:"ok"`
}

type shim struct {
	inner http.Handler
	calls *os.File // nil: no log
	mutex sync.Mutex
	locks map[string]string // of a machine: the source that keeps it from being relocated
}

func newShim(inner http.Handler, calls *os.File) *shim {
	return &shim{inner: inner, calls: calls, locks: map[string]string{}}
}

func (s *shim) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodPost || !strings.HasPrefix(r.URL.Path, "/sdk") {
		s.inner.ServeHTTP(w, r)
		return
	}
	body, err := io.ReadAll(r.Body)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	var parsed request
	if err := xml.Unmarshal(body, &parsed); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	c := parsed.Body.Call
	method := c.XMLName.Local
	var answer *httptest.ResponseRecorder
	switch {
	case c.XMLName.Space == "urn:internalvim25":
		answer = s.internal(r, &parsed)
	case method == "RemoveSnapshot_Task":
		answer = s.removeSnapshot(r, body, c.This)
	default:
		answer = s.forward(r, body, method == "Fetch")
	}
	if strings.HasSuffix(method, "_Task") || c.XMLName.Space == "urn:internalvim25" ||
		method == "Login" || method == "Logout" {
		s.record(call{method, c.This.Value, c.Entity.Value, c.Name, c.Source,
			answer.Code == http.StatusOK})
	}
	for key, values := range answer.Header() {
		w.Header()[key] = values
	}
	w.WriteHeader(answer.Code)
	w.Write(answer.Body.Bytes())
}

// Let the simulator answer. A property that is not set makes it panic: then there is nothing in the answer.
func (s *shim) forward(r *http.Request, body []byte, unset bool) (answer *httptest.ResponseRecorder) {
	copied := r.Clone(r.Context())
	copied.Body = io.NopCloser(bytes.NewReader(body))
	answer = httptest.NewRecorder()
	if unset {
		defer func() {
			if recover() != nil {
				answer = httptest.NewRecorder()
				respond(answer, http.StatusOK, `<FetchResponse xmlns="urn:vim25"></FetchResponse>`)
			}
		}()
	}
	s.inner.ServeHTTP(answer, copied)
	return answer
}

func (s *shim) removeSnapshot(r *http.Request, body []byte, this reference) *httptest.ResponseRecorder {
	snapshot, _ := simulator.Map.Get(types.ManagedObjectReference{Type: this.Type, Value: this.Value}).(*simulator.VirtualMachineSnapshot)
	var owner types.ManagedObjectReference
	if snapshot != nil {
		// Its file's number may be that of a disk by now.
		owner = snapshot.Vm
		vm := simulator.Map.Get(owner).(*simulator.VirtualMachine)
		simulator.Map.WithLock(vm, func() {
			kept := vm.LayoutEx.Snapshot[:0]
			for _, layout := range vm.LayoutEx.Snapshot {
				if layout.Key != snapshot.Self {
					kept = append(kept, layout)
				}
			}
			vm.LayoutEx.Snapshot = kept
		})
	}
	answer := s.forward(r, body, false)
	var said struct {
		Body struct {
			Response struct {
				Task reference `xml:"returnval"`
			} `xml:"RemoveSnapshot_TaskResponse"`
		}
	}
	if answer.Code == http.StatusOK && xml.Unmarshal(answer.Body.Bytes(), &said) == nil {
		named := said.Body.Response.Task
		task, _ := simulator.Map.Get(types.ManagedObjectReference{Type: "Task", Value: named.Value}).(*simulator.Task)
		if task != nil && snapshot != nil {
			task.Info.Entity = &owner
		}
	}
	return answer
}

// Do what vCenter's internal interface does. A lock is known by its source; another's is in the way.
func (s *shim) internal(r *http.Request, parsed *request) *httptest.ResponseRecorder {
	c := parsed.Body.Call
	method := c.XMLName.Local
	if probe := s.askTime(r); probe.Code != http.StatusOK {
		return probe
	}
	answer := httptest.NewRecorder()
	vm, _ := simulator.Map.Get(types.ManagedObjectReference{Type: c.Entity.Type, Value: c.Entity.Value}).(*simulator.VirtualMachine)
	s.mutex.Lock()
	defer s.mutex.Unlock()
	held, locked := s.locks[c.Entity.Value]
	switch {
	case vm == nil:
		fault(answer, "ManagedObjectNotFound", fmt.Sprintf("<obj type=%q>%s</obj>", c.Entity.Type, c.Entity.Value))
	case len(c.Source) == 0 || len(c.Source) > 50 || len(c.Methods) != 1:
		fault(answer, "InvalidArgument", "<invalidProperty>sourceId</invalidProperty>")
	case method == "DisableMethods" && c.Methods[0].Method == "RelocateVM_Task":
		if locked && held != c.Source {
			fault(answer, "MethodAlreadyDisabledFault", "<sourceId>"+held+"</sourceId>")
			break
		}
		s.locks[c.Entity.Value] = c.Source
		setDisabled(vm, []string{"RelocateVM_Task"})
		respond(answer, http.StatusOK, `<DisableMethodsResponse xmlns="urn:vim25"></DisableMethodsResponse>`)
	case method == "EnableMethods" && c.Methods[0].Text == "RelocateVM_Task":
		if locked && held == c.Source {
			delete(s.locks, c.Entity.Value)
			setDisabled(vm, []string{})
		}
		respond(answer, http.StatusOK, `<EnableMethodsResponse xmlns="urn:vim25"></EnableMethodsResponse>`)
	default:
		fault(answer, "InvalidRequest", "")
	}
	return answer
}

// Ask for what only who has logged in is told: nobody but the simulator knows who that is.
func (s *shim) askTime(r *http.Request) *httptest.ResponseRecorder {
	copied := r.Clone(r.Context())
	copied.Method, copied.URL = http.MethodPost, &url.URL{Path: "/sdk"}
	return s.forward(copied, []byte(envelope(`<CurrentTime xmlns="urn:vim25"><_this type="ServiceInstance">ServiceInstance</_this></CurrentTime>`)), false)
}

func (s *shim) isLoggedIn(r *http.Request) bool {
	return s.askTime(r).Code == http.StatusOK
}

func setDisabled(vm *simulator.VirtualMachine, methods []string) {
	simulator.Map.WithLock(vm, func() { vm.DisabledMethod = methods })
}

func (s *shim) record(c call) {
	if s.calls == nil {
		return
	}
	line, err := json.Marshal(c)
	if err == nil {
		_, err = s.calls.Write(append(line, '\n'))
	}
	if err != nil {
		log.Print(err)
	}
}

func envelope(body string) string {
	return xml.Header + `<soapenv:Envelope xmlns:soapenv="http://schemas.xmlsoap.org/soap/envelope/" ` +
		`xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance"><soapenv:Body>` + body +
		`</soapenv:Body></soapenv:Envelope>`
}

func respond(w *httptest.ResponseRecorder, code int, body string) {
	w.Header().Set("Content-Type", "text/xml; charset=utf-8")
	w.WriteHeader(code)
	w.WriteString(envelope(body))
}

func fault(w *httptest.ResponseRecorder, name, fields string) {
	respond(w, http.StatusInternalServerError, "<soapenv:Fault><faultcode>ServerFaultCode</faultcode><faultstring>"+
		name+"</faultstring><detail><"+name+`Fault xmlns="urn:vim25" xsi:type="`+name+`">`+fields+"</"+name+"Fault></detail></soapenv:Fault>")
}
