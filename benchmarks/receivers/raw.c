/* What this disk and this loopback allow a receiver that does nothing else.
 *
 *     raw PORT FOLDER flush|os
 *
 * Each connection is a process with a folder of its own. It takes frames of an 8-byte
 * length (big endian) and as many bytes. Each becomes a file: written under a passing name, fdatasync, rename, fsync of
 * the folder, one byte in answer; with `os` nothing is flushed.
 */
#define _GNU_SOURCE
#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

/* Not more: Linux gives one large page to a write of 128 KiB, and a virtual machine that returns free memory of that
 * size to its host (/sys/module/page_reporting) has to get it back first, at four times the processor time. */
static char buffer[64 * 1024];

static void check(int result, const char *what) {
    if (result < 0) {
        perror(what);
        exit(1);
    }
}

static int read_all(int connection, void *into, size_t length) {
    size_t done = 0;
    while (done < length) {
        ssize_t count = read(connection, (char *)into + done, length - done);
        if (count <= 0)
            return 0;
        done += count;
    }
    return 1;
}

static void receive(int connection, int folder, int flush) {
    uint64_t length;
    for (unsigned number = 0; read_all(connection, &length, sizeof length); number++) {
        char part[32], final[32];
        snprintf(part, sizeof part, "%08u.part", number);
        snprintf(final, sizeof final, "%08u.dcm", number);
        int file = openat(folder, part, O_WRONLY | O_CREAT | O_EXCL, 0640);
        check(file, part);
        for (uint64_t left = be64toh(length); left;) {
            ssize_t count = read(connection, buffer, left < sizeof buffer ? left : sizeof buffer);
            if (count <= 0)
                exit(1);
            for (ssize_t written = 0; written < count;) {
                ssize_t now = write(file, buffer + written, count - written);
                check((int)(now < 0 ? -1 : 0), "write");
                written += now;
            }
            left -= count;
        }
        if (flush)
            check(fdatasync(file), "fdatasync");
        check(close(file), "close");
        check(renameat(folder, part, folder, final), "rename");
        if (flush)
            check(fsync(folder), "fsync");
        check(write(connection, "", 1) == 1 ? 0 : -1, "answer");
    }
}

int main(int count, char **arguments) {
    if (count != 4)
        return 2;
    int flush = strcmp(arguments[3], "flush") == 0, one = 1;
    struct sockaddr_in address = {.sin_family = AF_INET,
                                  .sin_port = htons(atoi(arguments[1])),
                                  .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int listener = socket(AF_INET, SOCK_STREAM, 0);
    check(bind(listener, (struct sockaddr *)&address, sizeof address), "bind");
    check(chdir(arguments[2]), arguments[2]);
    check(listen(listener, 64), "listen");
    for (unsigned number = 0;; number++) {
        int connection = accept(listener, NULL, NULL);
        if (connection < 0)
            continue;
        while (waitpid(-1, NULL, WNOHANG) > 0)
            ;
        if (fork() == 0) {
            char name[32];
            prctl(PR_SET_PDEATHSIG, SIGKILL);
            setsockopt(connection, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
            snprintf(name, sizeof name, "%08u", number);
            check(mkdir(name, 0750), name);
            int folder = open(name, O_RDONLY | O_DIRECTORY);
            check(folder, name);
            receive(connection, folder, flush);
            exit(0);
        }
        close(connection);
    }
}
