// Command registry makes an image of one program and stands for every registry
// there is, on this machine alone, until its standard input ends: containerd's
// tests name theirs in their code. It is a proxy for HTTPS that answers all
// hosts itself, with the image whatever is asked for.
//
//	registry /usr/bin/busybox CA
//
// writes the certificate that it is to be trusted by to the file CA, and prints
// the proxy's address.
package main

import (
	"archive/tar"
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"io"
	"log"
	"math/big"
	"net"
	"net/http"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
)

// Users that the tests name, as the busybox image has them.
const (
	passwd = "root:x:0:0:root:/root:/bin/sh\ndaemon:x:1:1:daemon:/usr/sbin:/bin/false\n" +
		"sys:x:3:3:sys:/dev:/bin/false\nwww-data:x:33:33:www-data:/var/www:/bin/false\n" +
		"backup:x:34:34:backup:/var:/bin/false\nnobody:x:65534:65534:nobody:/home:/bin/false\n"
	group = "root:x:0:\ndaemon:x:1:\nsys:x:3:\nwww-data:x:33:\nbackup:x:34:\nusers:x:100:\nnobody:x:65534:\n"
	// One test asks a bash whether passwd runs as its owner.
	bash = "#!/bin/sh\nexec sh \"$@\"\n"
	// As the first process, which has no default for signals, Debian's takes
	// none; one test ends it by SIGTERM.
	nc = "#!/bin/sh\ntrap 'kill $!; exit 143' TERM\nbusybox nc \"$@\" &\nwait $!\n"
)

func main() {
	if len(os.Args) != 3 {
		log.Fatal("usage: registry BUSYBOX CA")
	}
	if err := run(os.Args[1], os.Args[2]); err != nil {
		log.Fatal(err)
	}
}

func run(busybox, ca string) error {
	layer, err := root(busybox)
	if err != nil {
		return err
	}
	image, err := image(layer)
	if err != nil {
		return err
	}
	quiet := log.New(io.Discard, "", 0)
	images := registry.New(registry.Logger(quiet))
	plain, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	go http.Serve(plain, images)
	tag, err := name.NewTag(plain.Addr().String()+"/"+own, name.Insecure)
	if err != nil {
		return err
	}
	if err := remote.Write(tag, image); err != nil {
		return fmt.Errorf("push %s: %w", tag, err)
	}
	issuer, err := newIssuer(ca)
	if err != nil {
		return err
	}
	secure, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{GetCertificate: issuer.forHost})
	if err != nil {
		return err
	}
	go (&http.Server{Handler: anyImage(images), ErrorLog: quiet}).Serve(secure)
	proxy, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	go http.Serve(proxy, connectTo(secure.Addr().String()))
	fmt.Printf("http://%s\n", proxy.Addr())
	_, err = io.Copy(io.Discard, os.Stdin)
	return err
}

// own is the image's name in the registry.
const own = "image:latest"

var asked = regexp.MustCompile(`^/v2/.+/(manifests|blobs)/([^/]+)$`)

// anyImage has every repository hold the one image, under every tag.
func anyImage(images http.Handler) http.Handler {
	return http.HandlerFunc(func(writer http.ResponseWriter, request *http.Request) {
		if found := asked.FindStringSubmatch(request.URL.Path); found != nil {
			reference := found[2]
			if found[1] == "manifests" && !strings.Contains(reference, ":") {
				reference = "latest"
			}
			request.URL.Path = "/v2/image/" + found[1] + "/" + reference
		}
		images.ServeHTTP(writer, request)
	})
}

// connectTo is a proxy (RFC 9110, 9.3.6) that connects everybody to one address.
func connectTo(address string) http.Handler {
	return http.HandlerFunc(func(writer http.ResponseWriter, request *http.Request) {
		if request.Method != http.MethodConnect {
			http.Error(writer, "only CONNECT is known", http.StatusMethodNotAllowed)
			return
		}
		server, err := net.Dial("tcp", address)
		if err != nil {
			http.Error(writer, err.Error(), http.StatusBadGateway)
			return
		}
		defer server.Close()
		client, _, err := http.NewResponseController(writer).Hijack()
		if err != nil {
			return
		}
		defer client.Close()
		fmt.Fprint(client, "HTTP/1.1 200 OK\r\n\r\n")
		go func() {
			defer client.Close()
			io.Copy(client, server)
		}()
		io.Copy(server, client)
	})
}

// issuer makes certificates for all hosts.
type issuer struct {
	certificate *x509.Certificate
	key         *ecdsa.PrivateKey
}

func newIssuer(file string) (*issuer, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "conformance"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return nil, err
	}
	text := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	return &issuer{template, key}, os.WriteFile(file, text, 0o600)
}

func (i *issuer) forHost(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
	template := &x509.Certificate{
		SerialNumber: big.NewInt(2), DNSNames: []string{hello.ServerName},
		NotBefore: i.certificate.NotBefore, NotAfter: i.certificate.NotAfter,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, i.certificate, i.key.Public(), i.key)
	if err != nil {
		return nil, err
	}
	return &tls.Certificate{Certificate: [][]byte{der}, PrivateKey: i.key}, nil
}

func image(layer []byte) (v1.Image, error) {
	opened, err := tarball.LayerFromOpener(func() (io.ReadCloser, error) {
		return io.NopCloser(bytes.NewReader(layer)), nil
	})
	if err != nil {
		return nil, err
	}
	image, err := mutate.AppendLayers(empty.Image, opened)
	if err != nil {
		return nil, err
	}
	config, err := image.ConfigFile()
	if err != nil {
		return nil, err
	}
	config = config.DeepCopy()
	config.OS, config.Architecture = "linux", "amd64"
	config.Config.Env = []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}
	config.Config.Cmd = []string{"sh"}
	return mutate.ConfigFile(image, config)
}

// root is a tar of what the busybox image has: the program under all of its
// names, and the folders and users that programs look for.
func root(busybox string) ([]byte, error) {
	program, err := os.ReadFile(busybox)
	if err != nil {
		return nil, err
	}
	names, err := exec.Command(busybox, "--list").Output()
	if err != nil {
		return nil, fmt.Errorf("%s --list: %w", busybox, err)
	}
	var out bytes.Buffer
	writer := tar.NewWriter(&out)
	add := func(header tar.Header, content []byte) error {
		header.Size = int64(len(content))
		if err := writer.WriteHeader(&header); err != nil {
			return err
		}
		_, err := writer.Write(content)
		return err
	}
	for _, dir := range []string{"bin", "dev", "etc", "home", "proc", "root", "run", "sys", "tmp", "usr", "usr/bin", "usr/sbin", "var"} {
		mode := int64(0o755)
		if dir == "tmp" {
			mode = 0o1777
		}
		if err := add(tar.Header{Name: dir + "/", Typeflag: tar.TypeDir, Mode: mode}, nil); err != nil {
			return nil, err
		}
	}
	files := []struct {
		name    string
		mode    int64
		content []byte
	}{
		{"etc/passwd", 0o644, []byte(passwd)},
		{"etc/group", 0o644, []byte(group)},
		{"bin/bash", 0o755, []byte(bash)},
		{"bin/nc", 0o755, []byte(nc)},
		{"usr/bin/passwd", 0o4755, []byte(bash)},
		{"bin/busybox", 0o755, program},
	}
	for _, file := range files {
		header := tar.Header{Name: file.name, Typeflag: tar.TypeReg, Mode: file.mode}
		if err := add(header, file.content); err != nil {
			return nil, err
		}
	}
	for _, applet := range strings.Fields(string(names)) {
		if slices.Contains([]string{"busybox", "bash", "nc"}, applet) {
			continue
		}
		link := tar.Header{Name: "bin/" + applet, Typeflag: tar.TypeLink, Linkname: "bin/busybox", Mode: 0o755}
		if err := add(link, nil); err != nil {
			return nil, err
		}
	}
	if err := writer.Close(); err != nil {
		return nil, err
	}
	return out.Bytes(), nil
}
