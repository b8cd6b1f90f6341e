package projector

import (
	"errors"

	"github.com/jackc/pgx/v5/pgconn"
)

// SQLSTATE codes and classes, from the appendix of the PostgreSQL manual, and one of this schema's own.
const (
	checkpointMoved = "MR001" // raised by the functions move_checkpoints and checkpoints_moved
	undefinedTable  = "42P01"
	undefinedSchema = "3F000"
	uniqueViolation = "23505"
)

// sqlState returns the SQLSTATE of a database error, "" for other errors.
func sqlState(err error) string {
	if pgErr, ok := errors.AsType[*pgconn.PgError](err); ok {
		return pgErr.Code
	}
	return ""
}

// serverAtFault reports whether a SQLSTATE tells of the server's condition rather than of what it was asked: the
// same statement may succeed later, or on another server.
func serverAtFault(state string) bool {
	if len(state) < 2 {
		return false
	}
	switch state[:2] {
	case "08", // connection exception
		"25",       // invalid transaction state: also a primary that has become read-only
		"28", "3D", // refused, or a database that does not exist
		"40",       // rolled back: deadlock, or a conflict with recovery on a replica
		"53", "55", // out of resources; an object in use
		"57", "58", // shut down or cancelled; a system error
		"XX": // internal error
		return true
	}
	return false
}
