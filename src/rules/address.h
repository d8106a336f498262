/*-------------------------------------------------------------------------
 *
 * address.h
 *	  Which network addresses a webhook may reach.
 *
 * IDENTIFICATION
 *	  src/rules/address.h
 *
 *-------------------------------------------------------------------------
 */
#ifndef WEBHOOK_ADDRESS_H
#define WEBHOOK_ADDRESS_H

#include <sys/socket.h>

/* The ranges that are refused unless allowed: the default of denied_networks. */
extern const char *const address_default_denied;

/*
 * A parsed list of networks: one block, allocated with malloc and not with
 * guc_malloc, so it can't be the "extra" of a setting from PostgreSQL 16 on.
 */
typedef struct NetworkList NetworkList;

/*
 * Parses a list of CIDR networks or single addresses, separated by commas and
 * white space: "10.0.0.0/8, ::1".  Returns a malloc'd list, which the caller
 * frees with free(), or NULL with *bad_item set to a malloc'd copy of the first
 * item that is no network ("," for an empty one, "" if memory ran out).  An
 * empty text is an empty list.  A network with bits set to the right of its
 * mask is refused, and so is an address with a zone ("fe80::1%eth0").
 */
extern NetworkList *network_list_parse(const char *text, char **bad_item);

/*
 * May a request be sent to this address?  It may if one of "allowed" holds it
 * or none of "denied" does.  IPv6 addresses that carry an IPv4 address
 * (mapped, compatible, NAT64, 6to4, Teredo) are judged by that one as well:
 * they are allowed only if it is, or if "allowed" names the IPv6 address
 * itself.  Families other than IPv4 and IPv6 are never allowed.  A list that is
 * NULL counts as empty.
 */
extern bool address_is_allowed(const struct sockaddr *address,
							   const NetworkList *allowed,
							   const NetworkList *denied);

/*
 * Writes the address without its port, "unknown" for other families; "out"
 * holds ADDRESS_TEXT_SIZE bytes.
 */
#define ADDRESS_TEXT_SIZE 64
extern void address_to_text(const struct sockaddr *address, char *out);

/*
 * Writes what all addresses of one party have in common, as far as an address tells:
 * an IPv4 address, also one that an IPv6 address carries, as it is; of others the first
 * 64 bits, behind which a network has as many as it likes.  False, with the text cut to
 * ADDRESS_TEXT_SIZE bytes, if that is no address.  "out" holds so many.
 */
extern bool address_party(const char *text, char *out);

/*
 * Reads an IPv4 or IPv6 address, without brackets and without a zone; false if
 * it is neither.  The port of the result is zero.
 */
extern bool address_from_text(const char *text, struct sockaddr_storage *address);

#endif							/* WEBHOOK_ADDRESS_H */
