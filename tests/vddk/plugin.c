/* Stands for nbdkit-vddk-plugin and VDDK behind it: the same parameters, by the words of nbdkit-vddk-plugin(1).
 *
 * libdir has a folder "stub" with what the server would know: a file for each parameter that must have a
 * certain value, and "disks", lines of a VMDK's name, a tab, and the raw file that is served for it.
 * It tells secrets to standard error, which the caller has to keep to itself.
 */
#define NBDKIT_API_VERSION 2
#include <nbdkit-plugin.h>

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static const char *const KNOWN[] = {"file", "libdir", "server", "port", "user", "thumbprint",
                                    "vm", "snapshot", "transports"};
enum { COUNT = sizeof KNOWN / sizeof *KNOWN };
static char *values[COUNT];
static char *password;

static const char *value_of(const char *key)
{
    if (strcmp(key, "password") == 0)
        return password ? password : "";
    for (int i = 0; i < COUNT; i++)
        if (strcmp(key, KNOWN[i]) == 0)
            return values[i] ? values[i] : "";
    return "";
}

static int config(const char *key, const char *value)
{
    if (strcmp(key, "password") == 0) {
        free(password);
        return nbdkit_read_password(value, &password);
    }
    for (int i = 0; i < COUNT; i++)
        if (strcmp(key, KNOWN[i]) == 0) {
            free(values[i]);
            values[i] = strdup(value);
            return 0;
        }
    nbdkit_error("unknown parameter '%s'", key);
    return -1;
}

static FILE *stub(const char *name)
{
    char path[4096];
    snprintf(path, sizeof path, "%s/stub/%s", value_of("libdir"), name);
    return fopen(path, "r");
}

/* What VixDiskLib_ConnectEx and VixDiskLib_Open refuse, they refuse when a client connects. */
static int check(const char *key)
{
    char line[4096] = "";
    FILE *file = stub(key);
    if (!file)
        return 0;
    if (fgets(line, sizeof line, file))
        line[strcspn(line, "\n")] = 0;
    fclose(file);
    if (strcmp(line, value_of(key)) == 0)
        return 0;
    nbdkit_error("VixDiskLib_ConnectEx: %s: not '%s'", key, value_of(key));
    return -1;
}

static void *open_disk(int readonly)
{
    char line[8192];
    fprintf(stderr, "login of %s with %s\n", value_of("user"), value_of("password"));
    if (!readonly) {
        nbdkit_error("VixDiskLib_Open: opened for writing");
        return NULL;
    }
    for (int i = 0; i < COUNT; i++)
        if (strcmp(KNOWN[i], "file") != 0 && check(KNOWN[i]) == -1)
            return NULL;
    if (check("password") == -1)
        return NULL;
    FILE *disks = stub("disks");
    while (disks && fgets(line, sizeof line, disks)) {
        line[strcspn(line, "\n")] = 0;
        char *tab = strchr(line, '\t');
        if (!tab)
            continue;
        *tab = 0;
        if (strcmp(line, value_of("file")) == 0) {
            int *handle = malloc(sizeof *handle);
            *handle = open(tab + 1, O_RDONLY | O_CLOEXEC);
            fclose(disks);
            return handle;
        }
    }
    if (disks)
        fclose(disks);
    nbdkit_error("VixDiskLib_Open: %s: The file specified is not a virtual disk", value_of("file"));
    return NULL;
}

static void close_disk(void *handle)
{
    close(*(int *)handle);
    free(handle);
}

static int64_t get_size(void *handle)
{
    struct stat status;
    return fstat(*(int *)handle, &status) == -1 ? -1 : status.st_size;
}

static int disk_pread(void *handle, void *buffer, uint32_t count, uint64_t offset, uint32_t flags)
{
    (void)flags;
    while (count) {
        ssize_t done = pread(*(int *)handle, buffer, count, offset);
        if (done <= 0) {
            nbdkit_error("pread: %s", done ? strerror(errno) : "end of file");
            return -1;
        }
        buffer = (char *)buffer + done;
        count -= done;
        offset += done;
    }
    return 0;
}

#define THREAD_MODEL NBDKIT_THREAD_MODEL_SERIALIZE_REQUESTS

static struct nbdkit_plugin plugin = {
    .name = "vddk",
    .config = config,
    .open = open_disk,
    .close = close_disk,
    .get_size = get_size,
    .pread = disk_pread,
};

NBDKIT_REGISTER_PLUGIN(plugin)
