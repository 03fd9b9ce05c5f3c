/* SPDX-License-Identifier: Apache-2.0 */
/* cli_check_rows.c: what each check of `weft check` looks at. */
#include "control/cli_check.h"
#include "lib/http/client.h"
#include "lib/json.h"
#include "lib/mem.h"

#include <fcntl.h>
#include <glob.h>
#include <libgen.h>
#include <openssl/pem.h>
#include <openssl/x509.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define CONFIG_MAX      65536
#define LISTED_MAX      10 /* of one kind of trouble */
#define SOCKETS_MAX     64
#define CAPTURE_MAX     65536
#define CAPTURE_MS      10000
#define SKEW_WARN_MS    2000
#define SKEW_BAD_MS     300000 /* certificates are back-dated by less */
#define LAG_MS          5000
#define VERSIONS_APART  2
#define DAY_S           86400
#define ROOT_WARN_S     (60 * DAY_S)
#define OPERATOR_WARN_S (30 * DAY_S)
#define LEAF_WARN_S     (2 * 3600) /* weftd renews its own at half of a day */

static const char *text_of(const json_t *o, const char *field)
{
	const char *v = json_string_value(json_object_get(o, field));

	return v ? v : "-";
}

static int64_t number_of(const json_t *o, const char *field)
{
	return json_integer_value(json_object_get(o, field));
}

static int64_t now_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_REALTIME, &t);
	return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

/* --- gathering --- */

static void read_config(struct check_facts *f)
{
	char *text = mem_zalloc(CONFIG_MAX);
	struct stat st;
	FILE *in = fopen(f->config, "re");
	size_t len = in ? fread(text, 1, CONFIG_MAX, in) : 0;

	if (!in || fstat(fileno(in), &st) != 0)
		err_errno(&f->config_err, "%s", f->config);
	else {
		f->config_mode = st.st_mode & 0777;
		f->admin = json_read(str_make(text, len), &f->config_err);
		if (!f->admin)
			err_prefix(&f->config_err, "%s", f->config);
	}
	if (in)
		fclose(in);
	mem_wipe_free(text, CONFIG_MAX);
}

void check_gather(struct check_facts *f)
{
	f->config = cli_config_path(f->c, &f->config_err);
	if (!f->config)
		return;
	read_config(f);
	if (!f->admin)
		return;
	/* The first call warms name resolution and caches; the second one's time is that of the clock. */
	if (!cli_call(f->c, "GET", "/v1/status", NULL, &f->status, NULL, &f->call_err))
		return;
	int64_t began = now_ms();
	if (!cli_call(f->c, "GET", "/v1/version", NULL, &f->version, NULL, &f->call_err))
		return;
	int64_t took = now_ms() - began;
	f->skew_ms = number_of(f->version, "nowMs") - began - took / 2;
	f->slack_ms = took / 2 + 1;
}

void check_facts_done(struct check_facts *f)
{
	mem_free(f->config);
	json_decref(f->admin);
	json_decref(f->version);
	json_decref(f->status);
}

/* --- configuration, control plane --- */

void check_config_found(struct check_facts *f, struct check_out *out)
{
	if (!f->admin)
		check_say(out, CHECK_ERROR, "`weftd init` writes it; --config FILE or WEFT_CONFIG names another", "%s",
			  f->config_err.text);
	else if (f->config_mode & 077)
		check_say(out, CHECK_WARNING, "it holds a key: chmod 600 it", "%s can be read by others (mode %03o)",
			  f->config, f->config_mode);
	else
		check_say(out, CHECK_GOOD, NULL, "%s is there and only its owner can read it", f->config);
}

void check_reachable(struct check_facts *f, struct check_out *out)
{
	if (!f->admin)
		return;
	if (f->version)
		check_say(out, CHECK_GOOD, NULL, "weftd answers at %s and is that of trust domain %s",
			  text_of(f->admin, "url"), text_of(f->status, "trustDomain"));
	else
		check_say(out, CHECK_ERROR, "is weftd running there, and may this machine reach it?", "%s",
			  f->call_err.text);
}

int check_versions_apart(const char *a, const char *b)
{
	unsigned ma, na, mb, nb;

	if (sscanf(a, "%u.%u", &ma, &na) != 2 || sscanf(b, "%u.%u", &mb, &nb) != 2 || na > 100000 || nb > 100000)
		return -1;
	return ma != mb ? 1000 : abs((int)na - (int)nb);
}

void check_version(struct check_facts *f, struct check_out *out)
{
	const char *theirs = text_of(f->version, "version");

	if (!f->version)
		return;
	int apart = check_versions_apart(WEFT_VERSION, theirs);
	if (apart == 0)
		check_say(out, CHECK_GOOD, NULL, "weft %s and weftd %s are of one version", WEFT_VERSION, theirs);
	else if (apart > 0 && apart <= VERSIONS_APART)
		check_say(out, CHECK_WARNING, "they work together; upgrade the older one", "weft is %s, weftd is %s",
			  WEFT_VERSION, theirs);
	else
		check_say(out, CHECK_ERROR, "use a weft that is at most two minor versions away",
			  "weft is %s, weftd is %s", WEFT_VERSION, theirs);
}

void check_clock(struct check_facts *f, struct check_out *out)
{
	int64_t off = llabs(f->skew_ms) - f->slack_ms;

	if (!f->version)
		return;
	if (off < SKEW_WARN_MS)
		check_say(out, CHECK_GOOD, NULL, "the clocks of this machine and of weftd agree");
	else
		check_say(out, off < SKEW_BAD_MS ? CHECK_WARNING : CHECK_ERROR,
			  "certificates are valid by the clock: let NTP set both",
			  "the clock of weftd is %.1f s %s this one's", (double)llabs(f->skew_ms) / 1000.0,
			  f->skew_ms > 0 ? "ahead of" : "behind");
}

/* --- certificates --- */

static void say_expiry(struct check_out *out, const char *name, int64_t not_after_s, int64_t warn_s, const char *hint)
{
	char age[24];
	int64_t left = not_after_s - now_ms() / 1000;

	if (left <= 0)
		check_say(out, CHECK_ERROR, hint, "the certificate of %s has expired", name);
	else
		check_say(out, left < warn_s ? CHECK_WARNING : CHECK_GOOD, left < warn_s ? hint : NULL,
			  "the certificate of %s is valid for another %s", name,
			  cli_age(left * 1000, age, sizeof(age)));
}

static bool pem_expiry(const char *pem, int64_t *ret)
{
	BIO *in = BIO_new_mem_buf(pem, -1);
	X509 *x = in ? PEM_read_bio_X509(in, NULL, NULL, NULL) : NULL;
	int days = 0, seconds = 0;
	ASN1_TIME *epoch = ASN1_TIME_set(NULL, 0);

	bool ok = x && epoch && ASN1_TIME_diff(&days, &seconds, epoch, X509_get0_notAfter(x)) == 1;
	if (ok)
		*ret = (int64_t)days * DAY_S + seconds;
	ASN1_TIME_free(epoch);
	X509_free(x);
	BIO_free(in);
	return ok;
}

void check_certificates(struct check_facts *f, struct check_out *out)
{
	static const struct {
		const char *name, *what, *hint;
		int64_t warn_s;
	} known[] = {
	    {"root", "the mesh's root", "make a new root in time: every proxy must have it before the old one ends",
	     ROOT_WARN_S},
	    {"issuer", "the mesh's issuer", "make a new issuer in time", ROOT_WARN_S},
	    {"weftd", "weftd", "weftd renews it by itself; its log says why it does not", LEAF_WARN_S},
	};
	const char *own = json_string_value(json_object_get(f->admin, "certificate"));
	int64_t not_after = 0;
	size_t i;
	json_t *c;

	json_array_foreach(json_object_get(f->status, "certificates"), i,
			   c) for (size_t k = 0; k < ARRAY_LEN(known);
				   k++) if (strcmp(text_of(c, "name"), known[k].name) == 0)
	    say_expiry(out, known[k].what, number_of(c, "notAfter"), known[k].warn_s, known[k].hint);
	if (own && pem_expiry(own, &not_after))
		say_expiry(out, "the administrator", not_after, OPERATOR_WARN_S,
			   "make another one in time (a bearer token works too: POST /v1/bearers)");
}

/* --- proxies --- */

/* A list of names, cut: "a, b and 3 more". */
struct names {
	char text[400];
	size_t n;
};

static void name_add(struct names *l, const char *name)
{
	size_t at = strlen(l->text);

	if (l->n++ < LISTED_MAX)
		snprintf(l->text + at, sizeof(l->text) - at, "%s%s", at ? ", " : "", name);
}

static const char *names_text(struct names *l)
{
	size_t at = strlen(l->text);

	if (l->n > LISTED_MAX)
		snprintf(l->text + at, sizeof(l->text) - at, " and %zu more", l->n - LISTED_MAX);
	return l->text;
}

void check_connected(struct check_facts *f, struct check_out *out)
{
	struct names away = {.n = 0};
	const json_t *proxies = json_object_get(f->status, "proxies");
	size_t i;
	json_t *p;

	if (!f->status)
		return;
	json_array_foreach((json_t *)(uintptr_t)proxies, i, p) if (!json_is_true(json_object_get(p, "connected")))
	    name_add(&away, text_of(p, "name"));
	if (away.n)
		check_say(out, CHECK_WARNING,
			  "is the sidecar running, and does it reach weftd? its /ready says why not",
			  "registered but not connected: %s", names_text(&away));
	else if (json_array_size(proxies))
		check_say(out, CHECK_GOOD, NULL, "all %zu proxies are connected", json_array_size(proxies));
	else
		check_say(out, CHECK_GOOD, NULL, "no workload has joined yet");
}

static void say_refused(const json_t *resources, struct check_out *out)
{
	size_t i, said = 0;
	json_t *r;

	json_array_foreach((json_t *)(uintptr_t)resources, i, r) if (number_of(r, "refused") && said++ < LISTED_MAX)
	    check_say(out, CHECK_ERROR, "`weft status` names the proxies; the last good version stays in force",
		      "%s %s: %s", text_of(r, "type"), text_of(r, "name"), text_of(r, "summary"));
	if (said > LISTED_MAX)
		check_say(out, CHECK_ERROR, NULL, "and %zu more that were refused", said - LISTED_MAX);
}

void check_applied(struct check_facts *f, struct check_out *out)
{
	struct names slow = {.n = 0};
	size_t i, connected = 0;
	json_t *p;

	json_array_foreach(json_object_get(f->status, "proxies"), i, p)
	{
		connected += json_is_true(json_object_get(p, "connected"));
		if (number_of(p, "lag_ms") > LAG_MS)
			name_add(&slow, text_of(p, "name"));
	}
	if (!f->status || connected == 0)
		return;
	say_refused(json_object_get(f->status, "resources"), out);
	if (slow.n)
		check_say(out, CHECK_ERROR,
			  "`weft wait` says what they have not applied; are they frozen or overloaded?",
			  "no answer to a push for more than %d s: %s", LAG_MS / 1000, names_text(&slow));
	else if (out->worst == CHECK_GOOD)
		check_say(out, CHECK_GOOD, NULL, "every proxy has applied what it was sent");
}

void check_proxy_versions(struct check_facts *f, struct check_out *out)
{
	struct names old = {.n = 0}, far = {.n = 0};
	size_t i, n = 0;
	json_t *p;

	json_array_foreach(json_object_get(f->status, "proxies"), i, p)
	{
		const char *said = json_string_value(json_object_get(p, "version"));
		if (!said || !*said)
			continue;
		n++;
		const char *number = strrchr(said, ' '); /* "weft-proxy 0.1.0" */
		int apart = check_versions_apart(number ? number + 1 : said, text_of(f->status, "version"));
		if (apart < 0 || apart > VERSIONS_APART)
			name_add(&far, text_of(p, "name"));
		else if (apart > 0)
			name_add(&old, text_of(p, "name"));
	}
	if (far.n)
		check_say(out, CHECK_ERROR, "only two minor versions apart work together: upgrade them",
			  "more than two versions from weftd's: %s", names_text(&far));
	if (old.n)
		check_say(out, CHECK_WARNING, "restart them with the new weft-proxy",
			  "of another version than weftd: %s", names_text(&old));
	if (n && !far.n && !old.n)
		check_say(out, CHECK_GOOD, NULL, "every proxy is of weftd's version");
}

void check_guard(struct check_facts *f, struct check_out *out)
{
	int64_t kept = number_of(json_object_get(f->status, "workloads"), "guarded");

	if (kept)
		check_say(out, CHECK_ERROR, "so many at once: look at the network between weftd and them",
			  "%lld workloads are kept although their leases are over", (long long)kept);
	else if (number_of(json_object_get(f->status, "workloads"), "registered"))
		check_say(out, CHECK_GOOD, NULL, "no workload is kept beyond its lease");
}

/* --- this machine --- */

/* weft-capture beside this program, in sbin beside it, or where the system has it; NULL: it is not installed. */
static char *capture_path(void)
{
	char own[4096];
	ssize_t n = readlink("/proc/self/exe", own, sizeof(own) - 1);

	own[MAX(n, 0)] = 0;
	const char *dir = dirname(own);
	const char *const places[] = {dir, "/usr/local/sbin", "/usr/sbin"};
	for (size_t i = 0; i < 2 * ARRAY_LEN(places); i++) {
		char *path = mem_printf("%s%s/weft-capture", places[i / 2], i % 2 ? "/../sbin" : "");
		if (access(path, X_OK) == 0)
			return path;
		mem_free(path);
	}
	return NULL;
}

/* Its output; bounded in bytes and time. */
static size_t read_all(int fd, char *out, size_t size)
{
	struct pollfd p = {.fd = fd, .events = POLLIN};
	size_t len = 0;
	ssize_t n;

	while (len < size && poll(&p, 1, CAPTURE_MS) == 1 && (n = read(fd, out + len, size - len)) > 0)
		len += (size_t)n;
	return len;
}

static json_t *run_capture(const char *path, struct err *err)
{
	int fds[2];
	char *text;

	if (pipe2(fds, O_CLOEXEC) != 0) {
		err_errno(err, "pipe");
		return NULL;
	}
	pid_t pid = fork();
	if (pid == 0) {
		dup2(fds[1], STDOUT_FILENO);
		execl(path, path, "check", "-o", "json", (char *)NULL);
		_exit(127);
	}
	close(fds[1]);
	text = mem_zalloc(CAPTURE_MAX);
	size_t len = pid > 0 ? read_all(fds[0], text, CAPTURE_MAX) : 0;
	close(fds[0]);
	if (pid > 0) {
		kill(pid, SIGKILL); /* it has said everything, or too much, or nothing for too long */
		waitpid(pid, NULL, 0);
	}
	json_t *list = json_read(str_make(text, len), err);
	mem_free(text);
	if (!list)
		err_prefix(err, "%s check", path);
	return list;
}

void check_capture(struct check_facts *f, struct check_out *out)
{
	char *path = geteuid() == 0 ? capture_path() : NULL;
	struct err err = {.code = ERR_NONE};
	size_t i;
	json_t *line;

	if (!path)
		return;
	json_t *list = run_capture(path, &err);
	mem_free(path);
	if (!json_is_array(list))
		check_say(out, CHECK_ERROR, "run `weft-capture check`", "%s", err.text);
	json_array_foreach(list, i, line)
	{
		const char *word = text_of(line, "result"), *hint = text_of(line, "hint");
		enum check_result result = strcmp(word, "ok") == 0        ? CHECK_GOOD
					   : strcmp(word, "warning") == 0 ? CHECK_WARNING
									  : CHECK_ERROR;
		check_say(out, result, *hint && result != CHECK_GOOD ? hint : NULL, "%s", text_of(line, "text"));
	}
	json_decref(list);
}

static bool answers(const char *path, struct err *err)
{
	struct http_call call = {.dial = {.unix_path = path, .timeout_ms = 2000},
				 .method = "GET",
				 .authority = "admin",
				 .path = "/connections",
				 .answer_max = 16 * 1024 * 1024,
				 .timeout_ms = 3000};
	struct http_answer answer;

	if (!http_call_wait(&call, &answer, err))
		return false;
	buf_done(&answer.body);
	return answer.status == 200 || err_set(err, ERR_PROTOCOL, "it answered %u", answer.status);
}

void check_sockets(struct check_facts *f, struct check_out *out)
{
	char *pattern = mem_printf("%s/*/admin.sock", f->c->run_dir ? f->c->run_dir : "/run/weft");
	size_t good = 0, n;
	glob_t found;

	n = glob(pattern, 0, NULL, &found) == 0 ? MIN(found.gl_pathc, SOCKETS_MAX) : 0;
	for (size_t i = 0; i < n; i++) {
		struct err err = {.code = ERR_NONE};
		if (answers(found.gl_pathv[i], &err))
			good++;
		else
			check_say(out, CHECK_WARNING,
				  "the proxy may have ended without taking its socket away, or it hangs", "%s: %s",
				  found.gl_pathv[i], err.text);
	}
	if (good)
		check_say(out, CHECK_GOOD, NULL, "%zu %s of this machine %s", good, good == 1 ? "proxy" : "proxies",
			  good == 1 ? "answers" : "answer");
	globfree(&found);
	mem_free(pattern);
}
