/*-------------------------------------------------------------------------
 *
 * access.c
 *	  What a role may see and do: the only place that decides it.
 *
 * What a role has is read from the table "grants" and remembered until that
 * table or the membership of roles changes.
 *
 * IDENTIFICATION
 *	  src/store/access.c
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "catalog/namespace.h"
#include "catalog/pg_class.h"
#include "catalog/pg_namespace.h"
#include "commands/trigger.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "server/settings.h"
#include "store/access.h"
#include "store/day_table.h"
#include "store/gather.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/inval.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/syscache.h"

PG_FUNCTION_INFO_V1(webhook_events_sees_all);
PG_FUNCTION_INFO_V1(webhook_events_own_user);
PG_FUNCTION_INFO_V1(webhook_events_may_see);
PG_FUNCTION_INFO_V1(webhook_events_caller);
PG_FUNCTION_INFO_V1(webhook_events_grants_changed);

/* The columns of "grants". */
enum
{
	GRANTS_ROLE = 1,
	GRANTS_ACCESS,
	GRANTS_USER_ID
};

/* What is known about one role, the one that asked last. */
typedef struct Rights
{
	bool		is_valid;
	Oid			role;
	bool		is_owner;		/* or a superuser */
	bool		manages;
	bool		reads;
	List	   *users;			/* char *, whose tenant it is; in "context" */
} Rights;

static AccessFrame current_frame = {InvalidOid, InvalidOid};
static Rights rights = {0};
static MemoryContext context = NULL;
static Oid	grants = InvalidOid;
static Oid	outbox = InvalidOid;	/* whose owner is the extension's */

AccessFrame
access_enter(Oid owner)
{
	AccessFrame previous = current_frame;
	Oid			caller = access_caller();

	current_frame.caller = caller;
	current_frame.owner = owner;
	return previous;
}

void
access_leave(AccessFrame frame)
{
	current_frame = frame;
}

/*
 * Behind the door foreign code can run too, as the owner of its table; that asks
 * in its own name.
 */
Oid
access_caller(void)
{
	if (OidIsValid(current_frame.caller) && GetUserId() == current_frame.owner)
		return current_frame.caller;
	return GetUserId();
}

AccessUser
access_become(Oid role)
{
	AccessUser	before;

	GetUserIdAndSecContext(&before.user, &before.security_context);
	SetUserIdAndSecContext(role, before.security_context |
						   SECURITY_RESTRICTED_OPERATION);
	before.guc_level = NewGUCNestLevel();
	(void) set_config_option("search_path", "pg_catalog, pg_temp", PGC_USERSET,
							 PGC_S_SESSION, GUC_ACTION_SAVE, true, 0, false);
	return before;
}

void
access_return(AccessUser user)
{
	AtEOXact_GUC(false, user.guc_level);
	SetUserIdAndSecContext(user.user, user.security_context);
}

/* Was the statement interrupted, as its user or a setting wants it?  Nobody else says so there. */
static bool
is_interrupt(const ErrorData *error)
{
	return error->funcname != NULL && strcmp(error->funcname, "ProcessInterrupts") == 0;
}

void
access_rethrow(MemoryContext context)
{
	ErrorData  *error;

	MemoryContextSwitchTo(context);
	error = CopyErrorData();
	if ((error->sqlerrcode != ERRCODE_QUERY_CANCELED &&
		 error->sqlerrcode != ERRCODE_ASSERT_FAILURE) || is_interrupt(error))
		PG_RE_THROW();
	FlushErrorState();
	error->sqlerrcode = ERRCODE_EXTERNAL_ROUTINE_EXCEPTION;
	ReThrowError(error);
}

static Oid
inner_table(const char *name)
{
	Oid			namespace = day_table_namespace();

	return OidIsValid(namespace) ? get_relname_relid(name, namespace) : InvalidOid;
}

Oid
access_owner(void)
{
	HeapTuple	tuple = SearchSysCache1(RELOID, ObjectIdGetDatum(inner_table("outbox")));
	Oid			owner;

	if (!HeapTupleIsValid(tuple))
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_TABLE),
				 errmsg("extension \"webhook_events\" is not installed")));
	owner = ((Form_pg_class) GETSTRUCT(tuple))->relowner;
	ReleaseSysCache(tuple);
	return owner;
}

static void
forget_of_table(Datum arg pg_attribute_unused(), Oid relation)
{
	if (OidIsValid(relation) && relation != grants && relation != outbox)
		return;
	rights.is_valid = false;
	settings_forget_plans();
}

static void
forget_of_role(Datum arg pg_attribute_unused(), int cache_id pg_attribute_unused(),
			   uint32 hash_value pg_attribute_unused())
{
	rights.is_valid = false;
	settings_forget_plans();
}

static void
add_user(const char *user_id)
{
	MemoryContext old_context;
	ListCell   *cell;

	foreach(cell, rights.users)
	{
		if (strcmp(lfirst(cell), user_id) == 0)
			return;
	}
	old_context = MemoryContextSwitchTo(context);
	rights.users = lappend(rights.users, pstrdup(user_id));
	MemoryContextSwitchTo(old_context);
}

/* Has the role itself, by no other one, a right on our schema, as grant_access() gave it? */
static bool
has_usage(Oid role)
{
	HeapTuple	tuple = SearchSysCache1(NAMESPACEOID,
										ObjectIdGetDatum(get_namespace_oid("webhook_events",
																		   true)));
	Acl		   *privileges;
	Datum		value;
	bool		isnull;
	bool		found = false;

	if (!HeapTupleIsValid(tuple))
		return false;
	value = SysCacheGetAttr(NAMESPACEOID, tuple, Anum_pg_namespace_nspacl, &isnull);
	privileges = isnull ? NULL : DatumGetAclPCopy(value);
	ReleaseSysCache(tuple);
	for (int i = 0; privileges != NULL && i < ACL_NUM(privileges); i++)
	{
		const AclItem *item = &ACL_DAT(privileges)[i];

		found |= item->ai_grantee == role && (ACLITEM_GET_PRIVS(*item) & ACL_USAGE) != 0;
	}
	return found;
}

/*
 * Adds what a row of "grants" gives to the role; nothing if whom it was given to has lost
 * it by DROP OWNED BY, which knows nothing of that table.
 */
static void
add_grant(HeapTuple row, TupleDesc desc, List **list pg_attribute_unused())
{
	bool		isnull;
	Oid			role = DatumGetObjectId(heap_getattr(row, GRANTS_ROLE, desc, &isnull));
	char	   *access;

	if (!has_privs_of_role(rights.role, role) || !has_usage(role))
		return;
	access = TextDatumGetCString(heap_getattr(row, GRANTS_ACCESS, desc, &isnull));
	if (strcmp(access, "manager") == 0)
		rights.manages = true;
	else if (strcmp(access, "reader") == 0)
		rights.reads = true;
	else if (strcmp(access, "tenant") == 0)
	{
		Datum		user_id = heap_getattr(row, GRANTS_USER_ID, desc, &isnull);

		if (!isnull)
			add_user(TextDatumGetCString(user_id));
	}
}

/*
 * Version 1.0.0, until ALTER EXTENSION has updated it, knows no grants: a manager is who
 * may write webhooks, and a reader who may read dispatches.
 */
static void
read_privileges(void)
{
	rights.manages = pg_class_aclcheck(inner_table("webhooks"), rights.role, ACL_INSERT) == ACLCHECK_OK;
	rights.reads = pg_class_aclcheck(inner_table("dispatches"), rights.role, ACL_SELECT) == ACLCHECK_OK;
}

/* What the role in whose name this runs has. */
static const Rights *
get_rights(void)
{
	Oid			role = access_caller();

	if (rights.is_valid && rights.role == role && OidIsValid(grants))
		return &rights;
	if (context == NULL)
	{
		context = AllocSetContextCreate(TopMemoryContext, "webhook_events rights",
										ALLOCSET_SMALL_SIZES);
		relation_watch(forget_of_table, (Datum) 0);
		CacheRegisterSyscacheCallback(AUTHMEMROLEMEM, forget_of_role, (Datum) 0);
		CacheRegisterSyscacheCallback(AUTHOID, forget_of_role, (Datum) 0);
		CacheRegisterSyscacheCallback(NAMESPACEOID, forget_of_role, (Datum) 0);
		/* Its owner is a member of pg_database_owner. */
		CacheRegisterSyscacheCallback(DATABASEOID, forget_of_role, (Datum) 0);
	}
	MemoryContextReset(context);
	memset(&rights, 0, sizeof(rights));
	rights.role = role;
	grants = inner_table("grants");
	outbox = inner_table("outbox");

	/* Valid before it is read: what changes meanwhile makes it invalid again. */
	rights.is_valid = true;
	PG_TRY();
	{
		rights.is_owner = superuser_arg(role) || has_privs_of_role(role, access_owner());
		if (!rights.is_owner)
		{
			if (OidIsValid(grants))
				gather_rows(grants, NULL, add_grant);
			else
				read_privileges();
		}
	}
	PG_CATCH();
	{
		rights.is_valid = false;
		PG_RE_THROW();
	}
	PG_END_TRY();
	return &rights;
}

static bool
is_unlimited(const Rights *of, AccessKind kind)
{
	return of->is_owner || of->manages || (kind == ACCESS_READ && of->reads);
}

/* The user that the setting narrows the session to; NULL if it does not. */
static const char *
narrowed_to(void)
{
	return setting_user_id != NULL && *setting_user_id != '\0' ? setting_user_id : NULL;
}

bool
access_to_all(AccessKind kind)
{
	return narrowed_to() == NULL && is_unlimited(get_rights(), kind);
}

const char *
access_user(AccessKind kind)
{
	const Rights *of = get_rights();
	const char *narrowed = narrowed_to();
	ListCell   *cell;

	if (narrowed == NULL)

		/*
		 * Of several users none is the role's own, before the setting
		 * chooses.
		 */
		return list_length(of->users) == 1 ? linitial(of->users) : NULL;
	if (is_unlimited(of, kind))
		return narrowed;
	foreach(cell, of->users)
	{
		if (strcmp(lfirst(cell), narrowed) == 0)
			return narrowed;
	}
	return NULL;
}

bool
access_to(AccessKind kind, const char *user_id)
{
	const char *own;

	if (access_to_all(kind))
		return true;
	own = access_user(kind);
	return own != NULL && user_id != NULL && strcmp(own, user_id) == 0;
}

bool
access_to_any(void)
{
	return has_privs_of_role(GetUserId(), access_owner()) ||
		access_to_all(ACCESS_READ) || access_user(ACCESS_READ) != NULL;
}

static AccessKind
kind_argument(bool manages)
{
	return manages ? ACCESS_MANAGE : ACCESS_READ;
}

/* sees_all(manages boolean) RETURNS boolean */
Datum
webhook_events_sees_all(PG_FUNCTION_ARGS)
{
	PG_RETURN_BOOL(access_to_all(kind_argument(PG_GETARG_BOOL(0))));
}

/* own_user(manages boolean) RETURNS text */
Datum
webhook_events_own_user(PG_FUNCTION_ARGS)
{
	const char *user = access_user(kind_argument(PG_GETARG_BOOL(0)));

	if (user == NULL)
		PG_RETURN_NULL();
	PG_RETURN_TEXT_P(cstring_to_text(user));
}

/* may_see(user_id text) RETURNS boolean */
Datum
webhook_events_may_see(PG_FUNCTION_ARGS)
{
	char	   *user_id = PG_ARGISNULL(0) ? NULL : text_to_cstring(PG_GETARG_TEXT_PP(0));

	PG_RETURN_BOOL(access_to(ACCESS_MANAGE, user_id));
}

/* caller() RETURNS oid */
Datum
webhook_events_caller(PG_FUNCTION_ARGS)
{
	(void) fcinfo;
	PG_RETURN_OID(access_caller());
}

/* grants_changed() RETURNS trigger; after each statement that changes "grants" */
Datum
webhook_events_grants_changed(PG_FUNCTION_ARGS)
{
	if (!CALLED_AS_TRIGGER(fcinfo))
		ereport(ERROR,
				(errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
				 errmsg("function can only be called by a trigger of table \"grants\"")));
	CacheInvalidateRelcache(((TriggerData *) fcinfo->context)->tg_relation);
	return PointerGetDatum(NULL);
}
