/*
 * fuzz.c
 *	  Feeds random input to the pure rooms: templates, headers, URLs, addresses,
 *	  ports, secrets and ids.  For libFuzzer; see run.sh.
 *
 * The first byte of an input chooses the room.  What must hold is checked: a
 * template renders to JSON, headers hold nothing that could end a line, and
 * what a URL's host is read as has one meaning.
 */
#include "postgres.h"

#include "fuzz.h"
#include "nodes/pg_list.h"
#include "rules/address.h"
#include "rules/headers.h"
#include "rules/ids.h"
#include "rules/json_scan.h"
#include "rules/ports.h"
#include "rules/signature.h"
#include "rules/template.h"
#include "rules/url.h"

extern int	LLVMFuzzerTestOneInput(const uint8 *data, size_t size);

/* Ends the process, for the fuzzer to report, unless a condition holds. */
static void
check(bool condition)
{
	if (!condition)
		abort();
}

/* A copy of exactly this size, so that reading too far is seen. */
static char *
copy(const uint8 *data, size_t size)
{
	char	   *text = palloc(size);

	memcpy(text, data, size);
	return text;
}

static bool
is_json(const char *text, size_t length)
{
	JsonScan	scan;
	JsonToken	token;

	json_scan_start(&scan, text, length, false);
	do
	{
		token = json_scan_next(&scan);
	} while (token != JSON_DONE && token != JSON_ERROR);
	json_scan_finish(&scan);
	return token == JSON_DONE;
}

/* Template and value are separated by a zero byte. */
static void
fuzz_template(const uint8 *data, size_t size)
{
	const uint8 *zero = memchr(data, 0, size);
	size_t		length = zero ? (size_t) (zero - data) : size;
	size_t		value_length = zero ? size - length - 1 : 0;
	char	   *value = value_length > 0 ? copy(zero + 1, value_length) : NULL;
	bool		is_value = value != NULL && is_json(value, value_length);
	JsonText	values[TEMPLATE_NVARIABLES] = {{NULL, 0}};
	bool		interpolate = (length % 2) == 1;
	Template   *template = template_compile(copy(data, length), length, interpolate,
											"payload template");
	StringInfoData out;
	List	   *headers;
	char	   *error;
	ListCell   *cell;

	for (int i = 0; is_value && i < TEMPLATE_NVARIABLES; i += 2)
	{
		values[i].data = value;
		values[i].length = value_length;
	}
	initStringInfo(&out);
	if (!template_render(template, values, 1 << 20, &out))
		return;
	check(is_json(out.data, out.len));
	if (!headers_parse(out.data, out.len, "X-Apify", &headers, &error))
		return;
	foreach(cell, headers)
	{
		Header	   *header = lfirst(cell);

		check(!header_is_forced(header->name, "X-Apify"));
		check(strpbrk(header->name, "\r\n: ") == NULL);
		check(strpbrk(header->value, "\r\n") == NULL);
	}
}

static void
fuzz_headers(const uint8 *data, size_t size)
{
	List	   *headers;
	char	   *error;

	check(headers_parse(copy(data, size), size, "X-Apify", &headers, &error) ==
		  (error == NULL));
}

static void
fuzz_url(const uint8 *data, size_t size)
{
	char	   *text = pnstrdup((const char *) data, size);
	Url			url;
	char	   *error;

	if (!url_parse(text, &url, &error))
	{
		check(error != NULL);
		return;
	}
	check(url.port > 0 && url.port <= 65535);
	check(url.host[0] != '\0' && strpbrk(url.host, " \t\r\n\\/@?#") == NULL);
	check(strpbrk(url.host_header, " \t\r\n\\/@?#") == NULL);
}

/* A list of networks and an address are separated by a zero byte. */
static void
fuzz_address(const uint8 *data, size_t size)
{
	const uint8 *zero = memchr(data, 0, size);
	size_t		length = zero ? (size_t) (zero - data) : size;
	char	   *bad_item = NULL;
	NetworkList *list = network_list_parse(pnstrdup((const char *) data, length), &bad_item);
	struct sockaddr_storage address;

	check((list == NULL) == (bad_item != NULL));
	if (zero && address_from_text(pnstrdup((const char *) zero + 1, size - length - 1), &address))
	{
		char		text[ADDRESS_TEXT_SIZE];
		struct sockaddr_storage again;

		address_to_text((struct sockaddr *) &address, text);
		check(address_from_text(text, &again));
		check(memcmp(&address, &again, sizeof(address)) == 0);
		check(address_is_allowed((struct sockaddr *) &address, list, NULL));
		(void) address_is_allowed((struct sockaddr *) &address, NULL, list);
	}
	free(list);
	free(bad_item);
}

static void
fuzz_small(const uint8 *data, size_t size)
{
	char	   *text = pnstrdup((const char *) data, size);
	PortSet		ports;
	SecretKey	key;
	TimestampTz time;
	char	   *error;

	(void) ports_parse(text, &ports);
	if (secret_decode(text, SECRET_MIN_BYTES, &key, &error))
		check(key.length >= SECRET_MIN_BYTES && key.length <= SECRET_MAX_BYTES);
	(void) id_time(text, (int) strlen(text), &time);
}

int
LLVMFuzzerTestOneInput(const uint8 *data, size_t size)
{
	static void (*const rooms[]) (const uint8 *, size_t) = {
		fuzz_template, fuzz_headers, fuzz_url, fuzz_address, fuzz_small
	};

	if (size > 0 && setjmp(fuzz_error) == 0)
		rooms[data[0] % lengthof(rooms)] (data + 1, size - 1);
	fuzz_free_all();
	return 0;
}
