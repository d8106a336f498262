/*-------------------------------------------------------------------------
 *
 * address.c
 *	  Which network addresses a webhook may reach.
 *
 * Called from within libcurl's callbacks, across whose frames no error may
 * jump, and from the checks of settings: nothing here allocates with palloc or
 * raises an error.
 *
 * IDENTIFICATION
 *	  src/rules/address.c
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <arpa/inet.h>
#include <netinet/in.h>

#include "rules/address.h"

#define IPV4_SIZE 4
#define IPV6_SIZE 16

/* White space is what isspace() finds in the C locale. */
#define WHITE_SPACE " \t\n\r\f\v"

/* "255.255.255.255" within the longest IPv6 address, a slash and the mask */
#define NETWORK_TEXT_SIZE (INET6_ADDRSTRLEN + sizeof("/128"))

/* The bytes of an IPv4 or IPv6 address, in network order. */
typedef struct Address
{
	int			size;			/* IPV4_SIZE or IPV6_SIZE; the family, too */
	uint8		bytes[IPV6_SIZE];
} Address;

/* The addresses whose first "prefix" bits are those of "address". */
typedef struct Network
{
	Address		address;
	int			prefix;
} Network;

struct NetworkList
{
	size_t		count;
	Network		networks[FLEXIBLE_ARRAY_MEMBER];
};

/*
 * How an IPv4 address lies in the IPv6 addresses of a network: its bytes are
 * those at the four positions, each combined with "mask" by exclusive or.
 */
typedef struct Embedding
{
	Network		network;
	uint8		positions[IPV4_SIZE];
	uint8		mask;
} Embedding;

#define IPV6_NETWORK(prefix_, ...) \
	{.address = {.size = IPV6_SIZE, .bytes = {__VA_ARGS__}}, .prefix = (prefix_)}

static const Embedding embeddings[] = {
	/* IPv4-mapped, RFC 4291 section 2.5.5.2 */
	{IPV6_NETWORK(96, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff),
	{12, 13, 14, 15}, 0},
	/* IPv4-translated, RFC 2765 section 2.1 */
	{IPV6_NETWORK(96, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 0, 0),
	{12, 13, 14, 15}, 0},
	/* IPv4-compatible, RFC 4291 section 2.5.5.1 */
	{IPV6_NETWORK(96, 0), {12, 13, 14, 15}, 0},
	/* NAT64, RFC 6052 section 2.2 */
	{IPV6_NETWORK(96, 0x00, 0x64, 0xff, 0x9b), {12, 13, 14, 15}, 0},
	/* 6to4, RFC 3056 section 2 */
	{IPV6_NETWORK(16, 0x20, 0x02), {2, 3, 4, 5}, 0},
	/* Teredo, RFC 4380 section 4: the server and the obfuscated client */
	{IPV6_NETWORK(32, 0x20, 0x01), {4, 5, 6, 7}, 0},
	{IPV6_NETWORK(32, 0x20, 0x01), {12, 13, 14, 15}, 0xff},
};

/*
 * What careful senders refuse and the IANA special-purpose registries list.
 * The networks of embeddings[] are missing on purpose, except that 2001::/23
 * covers Teredo.  In 64:ff9b:1::/48, NAT64 of local use, prefixes of any length
 * can be in use, so where the IPv4 address lies is not known.
 */
const char *const address_default_denied =
"0.0.0.0/8,"
"10.0.0.0/8,"
"100.64.0.0/10,"
"127.0.0.0/8,"
"169.254.0.0/16,"
"172.16.0.0/12,"
"192.0.0.0/24,"
"192.0.2.0/24,"
"192.88.99.0/24,"
"192.168.0.0/16,"
"198.18.0.0/15,"
"198.51.100.0/24,"
"203.0.113.0/24,"
"224.0.0.0/4,"
"240.0.0.0/4,"
"::/128,"
"::1/128,"
"64:ff9b:1::/48,"
"fe80::/10,"
"fc00::/7,"
"fec0::/10,"
"ff00::/8,"
"100::/64,"
"2001::/23,"
"2001:db8::/32,"
"3fff::/20,"
"5f00::/16";

/*-------------------------------------------------------------------------
 * Reading and writing
 *-------------------------------------------------------------------------
 */

/*
 * Some platforms' inet_pton accepts a zone ("%eth0") after an IPv6 address;
 * a zone would be lost in Address, so it is refused before.
 */
static bool
parse_address(const char *text, Address *address)
{
	memset(address, 0, sizeof(*address));
	if (strchr(text, '%') != NULL)
		return false;

	address->size = strchr(text, ':') != NULL ? IPV6_SIZE : IPV4_SIZE;
	return inet_pton(address->size == IPV6_SIZE ? AF_INET6 : AF_INET,
					 text, address->bytes) == 1;
}

/* Reads a decimal number without sign and leading zeros, up to "maximum". */
static bool
parse_prefix(const char *text, int maximum, int *prefix)
{
	size_t		digits = strspn(text, "0123456789");

	if (digits < 1 || digits > 3 || text[digits] != '\0' ||
		(text[0] == '0' && digits > 1))
		return false;

	*prefix = atoi(text);
	return *prefix <= maximum;
}

/* Are all bits of the network to the right of its mask zero? */
static bool
network_is_aligned(const Network *network)
{
	for (int bit = network->prefix; bit < network->address.size * 8; bit++)
	{
		if (network->address.bytes[bit / 8] & (0x80 >> (bit % 8)))
			return false;
	}
	return true;
}

/* Reads one item of a list: an address, with or without a mask. */
static bool
parse_network(const char *item, size_t length, Network *network)
{
	char		text[NETWORK_TEXT_SIZE];
	char	   *slash;

	if (length >= sizeof(text))
		return false;
	memcpy(text, item, length);
	text[length] = '\0';

	slash = strchr(text, '/');
	if (slash != NULL)
		*slash = '\0';
	if (!parse_address(text, &network->address))
		return false;

	network->prefix = network->address.size * 8;
	if (slash == NULL)
		return true;
	return parse_prefix(slash + 1, network->prefix, &network->prefix) &&
		network_is_aligned(network);
}

/*
 * A malloc'd copy of an item.  One between two commas has no characters; it is
 * shown as a comma, because "" is how the caller learns of lacking memory.
 */
static char *
copy_item(const char *item, size_t length)
{
	char	   *copy;

	if (length == 0)
		return strdup(",");

	copy = malloc(length + 1);
	if (copy == NULL)
		return strdup("");
	memcpy(copy, item, length);
	copy[length] = '\0';
	return copy;
}

static const char *
skip_white_space(const char *text)
{
	return text + strspn(text, WHITE_SPACE);
}

NetworkList *
network_list_parse(const char *text, char **bad_item)
{
	/* An item and what separates it from the next take two bytes at least. */
	size_t		max_count = strlen(text) / 2 + 1;
	const char *item = skip_white_space(text);
	bool		after_comma = false;
	NetworkList *list;

	*bad_item = NULL;
	list = malloc(offsetof(NetworkList, networks) +
				  max_count * sizeof(Network));
	if (list == NULL)
	{
		*bad_item = strdup("");
		return NULL;
	}
	list->count = 0;

	while (*item != '\0' || after_comma)
	{
		size_t		length = strcspn(item, "," WHITE_SPACE);
		Network		network;

		if (!parse_network(item, length, &network))
		{
			*bad_item = copy_item(item, length);
			free(list);
			return NULL;
		}
		list->networks[list->count++] = network;

		item = skip_white_space(item + length);
		after_comma = (*item == ',');
		if (after_comma)
			item = skip_white_space(item + 1);
	}
	return list;
}

/* Takes the bytes out of a socket address; false if it is no IP address. */
static bool
address_from_socket(const struct sockaddr *source, Address *address)
{
	memset(address, 0, sizeof(*address));
	switch (source->sa_family)
	{
		case AF_INET:
			address->size = IPV4_SIZE;
			memcpy(address->bytes,
				   &((const struct sockaddr_in *) source)->sin_addr,
				   IPV4_SIZE);
			return true;
		case AF_INET6:
			address->size = IPV6_SIZE;
			memcpy(address->bytes,
				   &((const struct sockaddr_in6 *) source)->sin6_addr,
				   IPV6_SIZE);
			return true;
		default:
			return false;
	}
}

StaticAssertDecl(ADDRESS_TEXT_SIZE >= INET6_ADDRSTRLEN,
				 "ADDRESS_TEXT_SIZE is too small for an IPv6 address");

void
address_to_text(const struct sockaddr *source, char *out)
{
	Address		address;

	if (!address_from_socket(source, &address))
		strlcpy(out, "unknown", ADDRESS_TEXT_SIZE);
	else
		inet_ntop(source->sa_family, address.bytes, out, ADDRESS_TEXT_SIZE);
}

bool
address_from_text(const char *text, struct sockaddr_storage *result)
{
	Address		address;

	memset(result, 0, sizeof(*result));
	if (!parse_address(text, &address))
		return false;

	if (address.size == IPV4_SIZE)
	{
		result->ss_family = AF_INET;
		memcpy(&((struct sockaddr_in *) result)->sin_addr, address.bytes,
			   IPV4_SIZE);
	}
	else
	{
		result->ss_family = AF_INET6;
		memcpy(&((struct sockaddr_in6 *) result)->sin6_addr, address.bytes,
			   IPV6_SIZE);
	}
	return true;
}

/*-------------------------------------------------------------------------
 * Judging
 *-------------------------------------------------------------------------
 */

static bool
network_holds(const Network *network, const Address *address)
{
	int			whole = network->prefix / 8;
	int			rest = network->prefix % 8;

	if (network->address.size != address->size ||
		memcmp(network->address.bytes, address->bytes, whole) != 0)
		return false;
	return rest == 0 ||
		((network->address.bytes[whole] ^ address->bytes[whole]) >>
		 (8 - rest)) == 0;
}

static bool
list_holds(const NetworkList *list, const Address *address)
{
	if (list == NULL)
		return false;

	for (size_t i = 0; i < list->count; i++)
	{
		if (network_holds(&list->networks[i], address))
			return true;
	}
	return false;
}

/* The unspecified and the loopback address look compatible but are not. */
static bool
is_low_address(const Address *address)
{
	static const uint8 zeros[IPV6_SIZE - 1];

	return memcmp(address->bytes, zeros, sizeof(zeros)) == 0 &&
		address->bytes[IPV6_SIZE - 1] <= 1;
}

static bool
embedded_is_allowed(const Address *embedded, const NetworkList *allowed,
					const NetworkList *denied)
{
	return list_holds(allowed, embedded) || !list_holds(denied, embedded);
}

/*
 * Is it the interface of an ISATAP tunnel, RFC 5214 section 6.1?  That may be
 * under any prefix; two bits of it tell whose the number is and are no part of it.
 */
static bool
is_isatap(const Address *address)
{
	return (address->bytes[8] & ~0x03) == 0 && address->bytes[9] == 0 &&
		address->bytes[10] == 0x5e && address->bytes[11] == 0xfe;
}

/* The IPv4 address that an IPv6 address of this kind carries. */
static Address
embedded_address(const Embedding *embedding, const Address *address)
{
	Address		embedded = {.size = IPV4_SIZE};

	for (int j = 0; j < IPV4_SIZE; j++)
		embedded.bytes[j] =
			address->bytes[embedding->positions[j]] ^ embedding->mask;
	return embedded;
}

/* Is every IPv4 address that the IPv6 address carries allowed? */
static bool
embedded_are_allowed(const Address *address, const NetworkList *allowed,
					 const NetworkList *denied)
{
	Address		last = {.size = IPV4_SIZE};

	if (is_low_address(address))
		return true;

	memcpy(last.bytes, address->bytes + IPV6_SIZE - IPV4_SIZE, IPV4_SIZE);
	if (is_isatap(address) && !embedded_is_allowed(&last, allowed, denied))
		return false;
	for (size_t i = 0; i < lengthof(embeddings); i++)
	{
		Address		embedded;

		if (!network_holds(&embeddings[i].network, address))
			continue;
		embedded = embedded_address(&embeddings[i], address);
		if (!embedded_is_allowed(&embedded, allowed, denied))
			return false;
	}
	return true;
}

bool
address_is_allowed(const struct sockaddr *source, const NetworkList *allowed,
				   const NetworkList *denied)
{
	Address		address;

	if (!address_from_socket(source, &address))
		return false;
	if (list_holds(allowed, &address))
		return true;
	if (list_holds(denied, &address))
		return false;
	return address.size == IPV4_SIZE ||
		embedded_are_allowed(&address, allowed, denied);
}

bool
address_party(const char *text, char *out)
{
	Address		address;
	Address		party;

	if (!parse_address(text, &address))
	{
		strlcpy(out, text, ADDRESS_TEXT_SIZE);
		return false;
	}
	/* There is one way to write an address of IPv4. */
	if (address.size == IPV4_SIZE)
	{
		strlcpy(out, text, ADDRESS_TEXT_SIZE);
		return true;
	}
	party = address;
	if (address.size == IPV6_SIZE)
		memset(party.bytes + IPV6_SIZE / 2, 0, IPV6_SIZE / 2);
	for (size_t i = 0; address.size == IPV6_SIZE && i < lengthof(embeddings); i++)
	{
		if (!network_holds(&embeddings[i].network, &address))
			continue;
		party = embedded_address(&embeddings[i], &address);
		break;
	}
	inet_ntop(party.size == IPV4_SIZE ? AF_INET : AF_INET6, party.bytes, out,
			  ADDRESS_TEXT_SIZE);
	return true;
}
