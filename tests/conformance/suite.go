package main

// The suite itself, so that its version and that of all that its tests need is
// in go.mod and go.sum.
import _ "github.com/containerd/containerd/v2/integration/client"
