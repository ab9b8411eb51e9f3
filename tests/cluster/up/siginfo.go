package main

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// pidOf returns si_pid, for which the package unix has no field. On 64-bit Linux it follows three
// integers and their padding.
func pidOf(info *unix.Siginfo) int {
	return int(*(*int32)(unsafe.Add(unsafe.Pointer(info), 16)))
}
