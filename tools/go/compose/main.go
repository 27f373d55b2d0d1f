// Command compose-config prints a compose file as its reference parser resolves it, in JSON.
//
//	compose-config [-env-file FILE] [-profile NAME] [compose.yaml]
//
// Variables come from the environment, and what it lacks from the file. A file that is wrong, or a required variable
// that is missing, is one line on stderr and exit code 1.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"

	"github.com/compose-spec/compose-go/v2/cli"
)

// Set by the build.
var version string

// list is a flag that may be given several times.
type list []string

func (l *list) String() string         { return fmt.Sprint(*l) }
func (l *list) Set(value string) error { *l = append(*l, value); return nil }

func main() {
	var envFiles, profiles list
	flag.Var(&envFiles, "env-file", "a file of variables; may be given several times")
	flag.Var(&profiles, "profile", "a profile that is switched on; \"*\" is all of them; may be given several times")
	showVersion := flag.Bool("version", false, "print the version of the parser")
	flag.Parse()
	if *showVersion {
		fmt.Println("compose-config", version)
		return
	}

	text, err := resolve(flag.Args(), envFiles, profiles)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	fmt.Println(string(text))
}

func resolve(files, envFiles, profiles []string) ([]byte, error) {
	options, err := cli.NewProjectOptions(
		files,
		cli.WithOsEnv,
		cli.WithEnvFiles(envFiles...),
		cli.WithDotEnv,
		cli.WithProfiles(profiles),
		cli.WithDefaultConfigPath,
	)
	if err != nil {
		return nil, err
	}
	project, err := options.LoadProject(context.Background())
	if err != nil {
		return nil, err
	}
	return project.MarshalJSON()
}
