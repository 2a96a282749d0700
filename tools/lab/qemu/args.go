package qemu

import "fmt"

// Bare are the arguments of a machine that has nothing but what is added, and a serial console at a socket. The file log gets what the
// console says, whether anybody is connected or not; empty: there is none.
func Bare(console, log string) []string {
	con := "socket,id=con,path=" + console + ",server=on,wait=off"
	if log != "" {
		con += ",logfile=" + log + ",logappend=on"
	}
	return []string{"-nodefaults", "-no-user-config", "-display", "none", "-chardev", con, "-serial", "chardev:con"}
}

// Monitor are the arguments that put QMP at a socket.
func Monitor(socket string) []string {
	return []string{"-chardev", "socket,id=qmp,path=" + socket + ",server=on,wait=off", "-mon", "chardev=qmp,mode=control"}
}

// UserNIC are the arguments of a virtio NIC in a network of its own where nobody answers. id is a name of its own; options are
// further ones of the network (the back end user of qemu(1)), may be empty, and begin with a comma.
func UserNIC(id, options string) []string {
	return []string{"-netdev", fmt.Sprintf("user,id=%s,restrict=on%s", id, options), "-device", fmt.Sprintf("virtio-net-pci,netdev=%s,romfile=", id)}
}
