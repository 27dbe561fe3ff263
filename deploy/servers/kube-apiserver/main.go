// The Kubernetes API server as a module of its own: Kubernetes cannot be installed by `go install PACKAGE@VERSION`,
// because its go.mod replaces its parts by folders of its own repository. go.mod here names them by version.
package main

import (
	"os"
	_ "time/tzdata"

	"k8s.io/component-base/cli"
	"k8s.io/kubernetes/cmd/kube-apiserver/app"
)

func main() {
	server := app.NewAPIServerCommand()
	os.Exit(cli.Run(server))
}
