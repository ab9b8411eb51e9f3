package main

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// pidOf reads si_pid, which the package unix gives no name: on 64-bit Linux it follows three
// integers and their padding.
func pidOf(info *unix.Siginfo) int {
	return int(*(*int32)(unsafe.Add(unsafe.Pointer(info), 16)))
}
