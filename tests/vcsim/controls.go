// What a test can tell the server while it runs. It stands before all else.
//
//	GET  /control/refuse    privilege: nobody has it any more
//	GET  /control/expire    end all sessions, as idleness does
//	GET  /control/grow      vm, key, file: the file of a disk from the machine's next snapshot on
//	GET  /control/delay     milliseconds: how long the next task is shown as running
//	GET  /control/sessions  how many there are
//	GET  /control/called    all methods so far, a word each
package main

import (
	"bytes"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/soap"
	"github.com/vmware/govmomi/vim25/types"
)

type backing = types.VirtualDiskFlatVer2BackingInfo

type controls struct {
	inner    http.Handler
	mutex    sync.Mutex
	called   []string
	sessions []string // the keys of all that ever were
	refused  map[string]bool
	grown    map[string]map[int32]string // machine, key of a disk: its next file
	parents  map[*backing]*backing       // the files that grown disks had before
	delay    time.Duration
}

func newControls(inner http.Handler) *controls {
	return &controls{
		inner:   inner,
		refused: map[string]bool{},
		grown:   map[string]map[int32]string{},
		parents: map[*backing]*backing{},
	}
}

var (
	methodName    = regexp.MustCompile(`<(?:\w+:)?Body[^>]*>\s*<(?:\w+:)?(\w+)`)
	thisReference = regexp.MustCompile(`<(?:\w+:)?_this[^>]*>([^<]+)<`)
	taskReference = regexp.MustCompile(`<returnval type="Task">([^<]+)<`)
	entityElement = regexp.MustCompile(`<entity type="(\w+)"[^>]*>([^<]+)<`)
	privilegeID   = regexp.MustCompile(`<privId[^>]*>([^<]+)<`)
	operationName = regexp.MustCompile(`<operation[^>]*>(\w+)<`)
)

// Which privilege a method needs, for those that tests refuse: the simulator lets everybody do everything.
var needed = map[string]string{
	"CreateSnapshot_Task": "VirtualMachine.State.CreateSnapshot",
	"RemoveSnapshot_Task": "VirtualMachine.State.RemoveSnapshot",
	"DisableMethods":      "Global.DisableMethods",
	"EnableMethods":       "Global.EnableMethods",
	"add":                 "VirtualMachine.Config.AddExistingDisk",
	"remove":              "VirtualMachine.Config.RemoveDisk",
}

func (c *controls) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if strings.HasPrefix(r.URL.Path, "/control/") {
		c.command(w, r)
		return
	}
	if r.Method != http.MethodPost || !strings.HasPrefix(r.URL.Path, "/sdk") {
		c.inner.ServeHTTP(w, r)
		return
	}
	text, err := io.ReadAll(r.Body)
	if err != nil {
		return
	}
	r.Body = io.NopCloser(bytes.NewReader(text))
	body, method, this := string(text), first(methodName, string(text)), first(thisReference, string(text))
	c.mutex.Lock()
	c.called = append(c.called, method)
	c.mutex.Unlock()
	if privilege := c.lacking(method, body); privilege != "" {
		fields := fmt.Sprintf(`<object type="VirtualMachine">%s</object><privilegeId>%s</privilegeId>`,
			this, privilege)
		refusal := httptest.NewRecorder()
		fault(refusal, "NoPermission", fields)
		w.WriteHeader(refusal.Code)
		w.Write(refusal.Body.Bytes())
		return
	}
	answer := httptest.NewRecorder()
	c.inner.ServeHTTP(answer, r)
	if answer.Code == http.StatusOK {
		c.after(method, this, body, answer)
	}
	for name, values := range answer.Header() {
		w.Header()[name] = values
	}
	w.WriteHeader(answer.Code)
	w.Write(answer.Body.Bytes())
}

// What is to be done when a call has been answered well.
func (c *controls) after(method, this, body string, answer *httptest.ResponseRecorder) {
	c.mutex.Lock()
	defer c.mutex.Unlock()
	switch method {
	case "Login":
		for _, cookie := range answer.Result().Cookies() {
			if cookie.Name == soap.SessionCookieName {
				c.sessions = append(c.sessions, cookie.Value)
			}
		}
	case "HasPrivilegeOnEntities":
		c.tellPrivileges(body, answer)
	case "CreateSnapshot_Task":
		c.growDisks(machineOf(this), c.grown[this])
		delete(c.grown, this)
	case "RemoveSnapshot_Task":
		if task := taskOf(answer); task != nil && task.Info.Entity != nil {
			c.shrinkDisks(machineOf(task.Info.Entity.Value))
		}
	}
	if task := taskOf(answer); task != nil && c.delay > 0 {
		state := task.Info.State
		set(task, "info.state", types.TaskInfoStateRunning)
		time.AfterFunc(c.delay, func() { set(task, "info.state", state) })
		c.delay = 0
	}
}

func (c *controls) command(w http.ResponseWriter, r *http.Request) {
	c.mutex.Lock()
	defer c.mutex.Unlock()
	value := r.URL.Query().Get
	number, _ := strconv.Atoi(value("key") + value("milliseconds"))
	switch strings.TrimPrefix(r.URL.Path, "/control/") {
	case "refuse":
		c.refused[value("privilege")] = true
	case "expire":
		nobody := &simulator.Context{Map: simulator.Map, Session: &simulator.Session{}}
		ended := &types.TerminateSession{SessionId: c.alive()}
		if fault := simulator.Map.SessionManager().TerminateSession(nobody, ended).Fault(); fault != nil {
			log.Print(fault.String)
		}
	case "grow":
		if c.grown[value("vm")] == nil {
			c.grown[value("vm")] = map[int32]string{}
		}
		c.grown[value("vm")][int32(number)] = value("file")
	case "delay":
		c.delay = time.Duration(number) * time.Millisecond
	case "sessions":
		fmt.Fprintln(w, len(c.alive()))
	case "called":
		fmt.Fprintln(w, strings.Join(c.called, "\n"))
	default:
		http.NotFound(w, r)
	}
}

// alive returns the keys of the sessions that there are: those that are told the time.
func (c *controls) alive() []string {
	var keys []string
	for _, key := range c.sessions {
		text := envelope(`<CurrentTime xmlns="urn:vim25"><_this type="ServiceInstance">ServiceInstance</_this></CurrentTime>`)
		request := httptest.NewRequest(http.MethodPost, simulator.Map.Path, strings.NewReader(text))
		request.AddCookie(&http.Cookie{Name: soap.SessionCookieName, Value: key})
		answer := httptest.NewRecorder()
		c.inner.ServeHTTP(answer, request)
		if answer.Code == http.StatusOK {
			keys = append(keys, key)
		}
	}
	return keys
}

// lacking returns the privilege that a call needs and nobody has.
func (c *controls) lacking(method, body string) string {
	operations := []string{method}
	if method == "ReconfigVM_Task" {
		for _, matched := range operationName.FindAllStringSubmatch(body, -1) {
			operations = append(operations, matched[1])
		}
	}
	c.mutex.Lock()
	defer c.mutex.Unlock()
	for _, operation := range operations {
		if privilege := needed[operation]; c.refused[privilege] {
			return privilege
		}
	}
	return ""
}

func (c *controls) tellPrivileges(body string, answer *httptest.ResponseRecorder) {
	content := ""
	for _, entity := range entityElement.FindAllStringSubmatch(body, -1) {
		content += fmt.Sprintf(`<returnval><entity type="%s">%s</entity>`, entity[1], entity[2])
		for _, id := range privilegeID.FindAllStringSubmatch(body, -1) {
			content += fmt.Sprintf("<privAvailability><privId>%s</privId><isGranted>%t</isGranted>"+
				"</privAvailability>", id[1], !c.refused[id[1]])
		}
		content += "</returnval>"
	}
	answer.Body.Reset()
	answer.Body.WriteString(envelope(`<HasPrivilegeOnEntitiesResponse xmlns="urn:vim25">` +
		content + `</HasPrivilegeOnEntitiesResponse>`))
}

// growDisks gives disks the files that a test has named for them: the simulator makes no deltas.
func (c *controls) growDisks(machine *simulator.VirtualMachine, files map[int32]string) {
	changeDisks(machine, func(disk *types.VirtualDisk, now *backing) *backing {
		if files[disk.Key] == "" {
			return nil
		}
		child := *now
		child.FileName, child.Parent = files[disk.Key], now
		c.parents[&child] = now
		return &child
	})
}

// shrinkDisks gives the disks of a machine that has no snapshot any more their first files again.
func (c *controls) shrinkDisks(machine *simulator.VirtualMachine) {
	if machine == nil || machine.Snapshot != nil {
		return
	}
	changeDisks(machine, func(_ *types.VirtualDisk, now *backing) *backing {
		var parent *backing
		for c.parents[now] != nil {
			now = c.parents[now]
			parent = now
		}
		return parent
	})
}

// changeDisks replaces the backings for which `change` has another one. Snapshots keep what they have.
func changeDisks(machine *simulator.VirtualMachine, change func(*types.VirtualDisk, *backing) *backing) {
	if machine == nil {
		return
	}
	devices := append([]types.BaseVirtualDevice{}, machine.Config.Hardware.Device...)
	for index, device := range devices {
		disk, _ := device.(*types.VirtualDisk)
		if disk == nil {
			continue
		}
		now, _ := disk.Backing.(*backing)
		if now == nil {
			continue
		}
		if next := change(disk, now); next != nil {
			changed := *disk
			changed.Backing = next
			devices[index] = &changed
		}
	}
	set(machine, "config.hardware.device", devices)
}

func machineOf(moref string) *simulator.VirtualMachine {
	reference := types.ManagedObjectReference{Type: "VirtualMachine", Value: moref}
	machine, _ := simulator.Map.Get(reference).(*simulator.VirtualMachine)
	return machine
}

func taskOf(answer *httptest.ResponseRecorder) *simulator.Task {
	reference := types.ManagedObjectReference{Type: "Task", Value: first(taskReference, answer.Body.String())}
	task, _ := simulator.Map.Get(reference).(*simulator.Task)
	return task
}

func set(object mo.Reference, property string, value types.AnyType) {
	simulator.Map.WithLock(object, func() {
		simulator.Map.Update(object, []types.PropertyChange{{Name: property, Val: value}})
	})
}

func first(pattern *regexp.Regexp, text string) string {
	if matched := pattern.FindStringSubmatch(text); matched != nil {
		return matched[1]
	}
	return ""
}
