/*
 * The trial loader: what systemd-boot starts instead of an image that is on trial.
 *
 * PID 1 arms the watchdog, so a kernel that hangs before PID 1 would hang for ever. This arms it before the kernel
 * starts. And an image that the firmware refuses would leave the box standing at the boot loader; this resets the
 * machine instead. Either way the try has been counted, so the next start takes the other slot.
 *
 * Its load options, from the boot entry, are two words: which watchdog, and the image. PID 1 of the image takes the
 * watchdog over, so it is only told to arm the one that the running system, of the same board, feeds. "none" arms none.
 *
 *   i6300esb \EFI\twinkeep\B.efi
 *
 * UEFI 2.10: system table 4.3, boot services 4.4, runtime services 4.5, loaded image 9.1, device paths 10.2.
 */

typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;
typedef unsigned long long u64;
typedef u64 status;
typedef void *handle;

#define EFI __attribute__((ms_abi))

enum { TIMEOUT = 120 /* s */ };

struct guid {
	u32 a;
	u16 b, c;
	u8 d[8];
};

struct text_output {
	void *reset;
	status(EFI *output)(struct text_output *, const u16 *);
};

struct boot_services {
	u8 header[24];
	void *tpl[2], *memory[5], *events[6], *install[3];
	status(EFI *handle_protocol)(handle, const struct guid *, void **);
	void *more[5];
	status(EFI *load_image)(u8 policy, handle parent, const void *path, const void *source, u64 size, handle *);
	status(EFI *start_image)(handle, u64 *, u16 **);
	void *exit[3], *monotonic;
	status(EFI *stall)(u64 microseconds);
	status(EFI *set_watchdog)(u64 seconds, u64 code, u64 size, const u16 *data);
};

struct runtime_services {
	u8 header[24];
	void *time[4], *virtual[2], *variables[3], *monotonic;
	void(EFI *reset)(u32 type, status, u64 size, const void *data);
};

struct system_table {
	u8 header[24];
	u16 *vendor;
	u32 revision;
	void *console_in[2];
	handle console_out_handle;
	struct text_output *console_out;
	void *standard_error[2];
	struct runtime_services *runtime;
	struct boot_services *boot;
};

struct loaded_image {
	u32 revision;
	handle parent;
	struct system_table *system;
	handle device;
	void *file, *reserved;
	u32 options_size; /* bytes */
	const u16 *options;
};

static const struct guid loaded_image_protocol = {0x5b1b31a1, 0x9562, 0x11d2, {0x8e, 0x3f, 0, 0xa0, 0xc9, 0x69, 0x72, 0x3b}};
static const struct guid device_path_protocol = {0x09576e91, 0x6d3f, 0x11d2, {0x8e, 0x39, 0, 0xa0, 0xc9, 0x69, 0x72, 0x3b}};

static void out8(u16 port, u8 v) { __asm__ volatile("outb %0, %1" ::"a"(v), "Nd"(port)); }
static void out16(u16 port, u16 v) { __asm__ volatile("outw %0, %1" ::"a"(v), "Nd"(port)); }
static void out32(u16 port, u32 v) { __asm__ volatile("outl %0, %1" ::"a"(v), "Nd"(port)); }
static u8 in8(u16 port) { u8 v; __asm__ volatile("inb %1, %0" : "=a"(v) : "Nd"(port)); return v; }
static u16 in16(u16 port) { u16 v; __asm__ volatile("inw %1, %0" : "=a"(v) : "Nd"(port)); return v; }
static u32 in32(u16 port) { u32 v; __asm__ volatile("inl %1, %0" : "=a"(v) : "Nd"(port)); return v; }

/* Configuration space of PCI by mechanism 1 (PCI Local Bus 3.0, 3.2.2.3.2). */
static u32 at(u32 device, u32 reg) { return 0x80000000 | device << 8 | (reg & 0xfc); }
static u32 pci32(u32 device, u32 reg) { out32(0xcf8, at(device, reg)); return in32(0xcfc); }
static u8 pci8(u32 device, u32 reg) { out32(0xcf8, at(device, reg)); return in8(0xcfc + (reg & 3)); }
static void set_pci8(u32 device, u32 reg, u8 v) { out32(0xcf8, at(device, reg)); out8(0xcfc + (reg & 3), v); }
static void set_pci16(u32 device, u32 reg, u16 v) { out32(0xcf8, at(device, reg)); out16(0xcfc + (reg & 2), v); }

/* find gives bus << 8 | device << 3 | function, or ~0. */
static u32 find(u32 id)
{
	for (u32 d = 0; d < 1 << 16; d++) {
		u32 found = pci32(d, 0);
		if (found == id)
			return d;
		if (!(d & 7) && (found == ~0u || !(pci8(d, 0x0e) & 0x80)))
			d += 7; /* nothing there, or only one function */
	}
	return ~0u;
}

static volatile u32 *memory(u64 address) { return (volatile u32 *)address; }

/* Intel 6300ESB, which QEMU emulates as i6300esb. Registers: Intel 300641-004, chapter 16; drivers/watchdog/i6300esb.c. */
static void unlock(volatile u16 *reload)
{
	*reload = 0x80;
	*reload = 0x86;
}

static int arm_i6300esb(void)
{
	u32 d = find(0x25ab8086);
	u32 base = d == ~0u ? 0 : pci32(d, 0x10) & ~0xfu;
	if (!base || pci8(d, 0x68) & 1) /* absent, without an address, or locked */
		return 0;
	set_pci16(d, 0x04, pci32(d, 0x04) | 2); /* answers in memory space */
	set_pci8(d, 0x68, 0);                   /* stopped */
	set_pci16(d, 0x60, 3);                  /* ticks of about 1 ms, no interrupt, a reset at the end */
	volatile u16 *reload = (volatile u16 *)memory(base + 0x0c);
	for (int i = 0; i < 2; i++) { /* one timer after the other */
		unlock(reload);
		*memory(base + 4 * i) = TIMEOUT << 9;
	}
	unlock(reload);
	*reload = 0x100;
	/* Runs, and is locked: a driver that the kernel has built in would stop it long before PID 1, and starts it anew instead. */
	set_pci8(d, 0x68, 3);
	return 1;
}

/* The TCO timer of Intel's ICH9, which QEMU's q35 has. Registers: Intel 316972-004, 13.9 and 10.1.75; drivers/watchdog/iTCO_wdt.c. */
static int arm_tco(void)
{
	const u32 lpc = 0x1f << 3;
	u32 power = pci32(lpc, 0x40) & 0xff80, chipset = pci32(lpc, 0xf0);
	if (pci32(lpc, 0) != 0x29188086 || !power || !(chipset & 1))
		return 0;
	volatile u32 *general = memory((chipset & ~0x3fffu) + 0x3410);
	*general &= ~0x20u; /* a reset at the end */
	if (*general & 0x20)
		return 0; /* strapped to none */
	u16 tco = power + 0x60;
	out32(power + 0x30, in32(power + 0x30) & ~0x2000u); /* no interrupt for the firmware */
	out16(tco + 8, in16(tco + 8) | 0x800);              /* stopped */
	out16(tco + 0x12, (in16(tco + 0x12) & ~0x3ffu) | TIMEOUT * 10 / 6 / 2); /* ticks of 0.6 s; it runs twice */
	out16(tco + 4, 8);                                   /* no timeout yet, */
	out16(tco + 6, 2);                                   /* nor a second one */
	out16(tco, 1);
	out16(tco + 8, in16(tco + 8) & ~0x800u);
	return 1;
}

/* word tells whether options begin with it and a space, and steps behind that. */
static int word(const u16 **options, const u16 *want)
{
	const u16 *o = *options;
	for (; *want; o++, want++)
		if (*o != *want)
			return 0;
	if (*o != ' ')
		return 0;
	*options = o + 1;
	return 1;
}

/* path_of puts the path of a file on the device into path, and gives its size; 0 when there is no room for it. */
static u64 path_of(const u8 *device, const u16 *name, u8 *path, u64 room)
{
	u64 n = 0, length = 0;
	while (device[n] != 0x7f) { /* up to the end node */
		u64 size = device[n + 2] | device[n + 3] << 8;
		if (size < 4 || n + size > room)
			return 0;
		n += size;
	}
	while (name[length++])
		;
	u64 size = 4 + 2 * length;
	if (n + size + 4 > room)
		return 0;
	for (u64 i = 0; i < n; i++)
		path[i] = device[i];
	path[n] = path[n + 1] = 4; /* media, file path */
	path[n + 2] = size, path[n + 3] = size >> 8;
	for (u64 i = 0; i < length; i++)
		path[n + 4 + 2 * i] = name[i], path[n + 5 + 2 * i] = name[i] >> 8;
	path[n + size] = 0x7f, path[n + size + 1] = 0xff, path[n + size + 2] = 4, path[n + size + 3] = 0;
	return n + size + 4;
}

static void say(struct system_table *s, const u16 *text) { s->console_out->output(s->console_out, text); }

/* run returns only when there is nothing to run, and says why. */
static const u16 *run(handle self, struct system_table *s)
{
	struct loaded_image *me;
	const void *device;
	u8 path[1024];
	handle image;
	if (s->boot->handle_protocol(self, &loaded_image_protocol, (void **)&me))
		return L"the firmware does not say what was loaded";
	const u16 *options = me->options;
	u32 length = me->options_size / 2;
	if (!options || length < 2 || length > 256 || options[length - 1])
		return L"the boot entry names no image";
	int armed = 0;
	if (word(&options, L"i6300esb"))
		armed = arm_i6300esb();
	else if (word(&options, L"tco"))
		armed = arm_tco();
	else if (!word(&options, L"none"))
		return L"the boot entry names an unknown watchdog";
	if (armed)
		say(s, L"Trial: the watchdog is armed, 120 s until the image has to have it.\r\n");
	s->boot->set_watchdog(TIMEOUT, 0x10000, 0, 0); /* the firmware's own, until the kernel has the machine */
	if (s->boot->handle_protocol(me->device, &device_path_protocol, (void **)&device) || !path_of(device, options, path, sizeof path))
		return L"the disk of the image is unknown";
	if (s->boot->load_image(0, self, path, 0, 0, &image))
		return L"the firmware refuses the image";
	s->boot->start_image(image, 0, 0);
	return L"the image came back";
}

status EFI efi_main(handle self, struct system_table *s)
{
	const u16 *why = run(self, s);
	say(s, L"Trial: ");
	say(s, why);
	say(s, L". This machine resets, and starts the other image.\r\n");
	s->boot->stall(3000000);
	s->runtime->reset(0, 0, 0, 0); /* cold */
	return 1ull << 63 | 1;
}
