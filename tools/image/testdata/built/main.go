// Command built prints the date that the firmware believes to be of.
package main

import (
	"fmt"

	"github.com/twinkeep/twinkeep/firmware/license"
)

func main() { fmt.Println(license.Built().Format("2006-01-02")) }
