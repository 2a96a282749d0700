/* Plays the firmware: runs the trial loader with the load options of the command line, and says what it did. Only "none" works here: the others talk to hardware. */
#include "../src/trial.c"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static struct loaded_image me;
static u8 device[] = {1, 1, 6, 0, 3, 0, 4, 1, 42, 0, [6 + 42] = 0x7f, 0xff, 4, 0};
static int refuses;

static status EFI protocol(handle h, const struct guid *g, void **p)
{
	(void)h;
	*p = g->a == loaded_image_protocol.a ? (void *)&me : device;
	return 0;
}

static status EFI load(u8 policy, handle parent, const void *path, const void *source, u64 size, handle *image)
{
	(void)policy, (void)parent, (void)source, (void)size;
	const u8 *p = path;
	if (memcmp(p, device, 48) || p[48] != 4 || p[49] != 4)
		exit(3);
	u32 length = p[50] | p[51] << 8;
	printf("load ");
	for (u32 i = 4; i < length && p[48 + i]; i += 2)
		putchar(p[48 + i]);
	if (memcmp(p + 48 + length, "\x7f\xff\x04\x00", 4))
		exit(4);
	printf("\n");
	*image = &me;
	return refuses;
}

static status EFI start(handle h, u64 *n, u16 **data)
{
	(void)h, (void)n, (void)data;
	printf("start\n");
	return 0;
}

static status EFI guard(u64 seconds, u64 code, u64 size, const u16 *data)
{
	(void)code, (void)size, (void)data;
	printf("firmware's watchdog %llu s\n", seconds);
	return 0;
}

static status EFI stall(u64 microseconds) { return microseconds == 0; }

static void EFI reset(u32 type, status s, u64 size, const void *data)
{
	(void)s, (void)size, (void)data;
	printf("reset %u\n", type);
	exit(0);
}

static status EFI output(struct text_output *o, const u16 *text)
{
	(void)o;
	for (; *text; text++)
		if (*text != '\r')
			putchar(*text);
	return 0;
}

/* Arguments: the options; "refuses" when the firmware refuses the image; "open" when the options have no end. */
int main(int argc, char **argv)
{
	u32 n = strlen(argv[1]);
	u16 *options = malloc(2 * (n + 1)); /* no byte more, for the sanitizer */
	for (u32 i = 0; i <= n; i++)
		options[i] = argv[1][i];
	int open = argc > 2 && !strcmp(argv[2], "open");
	refuses = argc > 2 && !strcmp(argv[2], "refuses");
	me.options = options, me.options_size = 2 * (n + !open);
	struct boot_services boot = {.handle_protocol = protocol, .load_image = load, .start_image = start, .stall = stall, .set_watchdog = guard};
	struct runtime_services runtime = {.reset = reset};
	struct text_output out = {.output = output};
	struct system_table s = {.console_out = &out, .runtime = &runtime, .boot = &boot};
	efi_main(&me, &s);
	return 1;
}
