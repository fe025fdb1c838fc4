// A simulated vCenter or ESXi host for the tests: govmomi's simulator behind TLS.
//
// It listens on a port of its own choice, prints one line of JSON that says where, and ends when its
// standard input does, so that it never outlives the test that started it.
package main

import (
	"crypto/tls"
	"encoding/json"
	"flag"
	"io"
	"log"
	"net/url"
	"os"

	"github.com/vmware/govmomi/simulator"
)

// What a test needs to know of a running server.
type announcement struct {
	Host       string            `json:"host"`
	Port       string            `json:"port"`
	Datastores map[string]string `json:"datastores"` // the folder that holds each one's files
}

func main() {
	address := flag.String("listen", "127.0.0.1:0", "address and port")
	user := flag.String("username", "user", "who may log in")
	certificate := flag.String("cert", "", "the server's certificate, PEM")
	key := flag.String("key", "", "its private key, PEM")
	calls := flag.String("calls", "", "a file to which calls are written")
	host := flag.Bool("esx", false, "an ESXi host instead of a vCenter")
	datacenters := flag.Int("dc", 1, "data centres of a vCenter")
	machines := flag.Int("vm", 2, "machines in each resource pool")
	timeout := flag.Duration("session-timeout", 0, "how long a session may be idle; 0: for ever")
	faults := flag.String("faults", "", "a file with what goes wrong at /folder")
	flag.Parse()

	pair, err := tls.LoadX509KeyPair(*certificate, *key)
	if err != nil {
		log.Fatal(err)
	}
	model := simulator.VPX()
	if *host {
		model = simulator.ESX()
	} else {
		model.Datacenter = *datacenters
	}
	model.Machine = *machines
	simulator.SessionIdleTimeout = *timeout
	defer model.Remove()
	if err := model.Create(); err != nil {
		log.Fatal(err)
	}
	model.Service.TLS = &tls.Config{Certificates: []tls.Certificate{pair}}
	model.Service.Listen = &url.URL{
		Host: *address,
		User: url.UserPassword(*user, os.Getenv("VCSIM_PASSWORD")),
	}
	var callLog *os.File
	if *calls != "" {
		callLog, err = os.OpenFile(*calls, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
		if err != nil {
			log.Fatal(err)
		}
	}
	server := model.Service.NewServer()
	defer server.Close()
	server.Config.Handler = newControls(&folder{
		shim:   newShim(server.Config.Handler, callLog),
		user:   model.Service.Listen.User,
		faults: *faults,
	})

	said := announcement{server.URL.Hostname(), server.URL.Port(), map[string]string{}}
	for _, entity := range simulator.Map.All("Datastore") {
		store := entity.(*simulator.Datastore)
		said.Datastores[store.Name] = store.Info.GetDatastoreInfo().Url
	}
	if err := json.NewEncoder(os.Stdout).Encode(said); err != nil {
		log.Print(err)
		return
	}
	io.Copy(io.Discard, os.Stdin)
}
