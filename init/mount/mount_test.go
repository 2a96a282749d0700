package mount

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

type fake struct {
	log  []string
	fail map[string]error // by "mkdir /x", "mount /x", "umount /x", "ro /x"
}

func (f *fake) do(what string) error {
	if err := f.fail[what]; err != nil {
		return err
	}
	f.log = append(f.log, what)
	return nil
}

func (f *fake) MkdirAll(path string) error { return f.do("mkdir " + path) }
func (f *fake) Mount(_, target, _ string, flags uintptr, _ string) error {
	if flags&unix.MS_REMOUNT != 0 {
		return f.do("ro " + target)
	}
	return f.do("mount " + target)
}
func (f *fake) Unmount(target string, _ int) error { return f.do("umount " + target) }

func TestAll(t *testing.T) {
	must := Point{"proc", "/proc", "proc", 0, "", true}
	may := Point{"pstore", "/pstore", "pstore", 0, "", false}
	for _, tt := range []struct {
		name string
		fail map[string]error
		want []string
	}{
		{"all there", nil, nil},
		{"mounted already", map[string]error{"mount /proc": unix.EBUSY}, nil},
		{"optional and unknown to the kernel", map[string]error{"mount /pstore": unix.ENODEV}, nil},
		{"optional and no place", map[string]error{"mkdir /pstore": unix.EPERM}, nil},
		{"optional but broken", map[string]error{"mount /pstore": unix.EIO}, []string{"mount pstore on /pstore: input/output error"}},
		{"required and unknown", map[string]error{"mount /proc": unix.ENODEV}, []string{"mount proc on /proc: no such device"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			f := &fake{fail: tt.fail}
			var got []string
			for _, e := range All(f, []Point{must, may}) {
				got = append(got, e.Error())
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestTable(t *testing.T) {
	seen := make(map[string]bool)
	for _, p := range Table {
		if seen[p.Target] {
			t.Errorf("%s is in the table twice", p.Target)
		}
		for s := range seen {
			if strings.HasPrefix(s, p.Target+"/") {
				t.Errorf("%s would hide %s, which is before it", p.Target, s)
			}
		}
		seen[p.Target] = true
	}
}

func TestUnmountAll(t *testing.T) {
	mounts := `rootfs / rootfs rw 0 0
proc /proc proc rw 0 0
/dev/vda1 /data ext4 rw 0 0
/dev/vdb1 /data/my\040disk vfat rw 0 0
tmpfs /run tmpfs rw 0 0
`
	busy := map[string]error{"umount /data": unix.EBUSY}
	for _, tt := range []struct {
		fail map[string]error
		want []string
		err  string
	}{
		{nil, []string{"umount /data/my disk", "umount /data"}, "<nil>"},
		{busy, []string{"umount /data/my disk", "ro /data"}, "<nil>"},
		{map[string]error{"umount /data": unix.EBUSY, "ro /data": unix.EBUSY}, []string{"umount /data/my disk"},
			"unmount /data: device or resource busy; make it read-only: device or resource busy"},
	} {
		f := &fake{fail: tt.fail}
		err := UnmountAll(f, []byte(mounts))
		if diff := cmp.Diff(tt.want, f.log); diff != "" || fmt.Sprint(err) != tt.err {
			t.Errorf("%v: %s", err, diff)
		}
	}
}
