package devstack

import (
	"context"
	"fmt"
	"net/url"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"

	"github.com/redis/go-redis/v9"
)

// redisServer is the flavor of Redis and Valkey.
type redisServer struct {
	program  string
	identity identity
	dir      string
	password string
}

// redisConf keeps everything that was written (a second may be lost with the machine), and refuses writes rather than
// evict. What takes no part in this is the snapshot file: the append-only file is enough.
const redisConf = `# Written at every start; changes made here are lost.
bind 127.0.0.1
port %d
protected-mode yes
requirepass %s
dir %s
pidfile %s
daemonize no
appendonly yes
appendfsync everysec
no-appendfsync-on-rewrite yes
save ""
maxmemory-policy noeviction
tcp-backlog 128
`

func (r *redisServer) command(port int) (*exec.Cmd, error) {
	conf := filepath.Join(r.dir, "redis.conf")
	content := fmt.Sprintf(redisConf, port, strconv.Quote(r.password), strconv.Quote(r.dir), strconv.Quote(filepath.Join(r.dir, "redis.pid")))
	if err := r.identity.writeFile(conf, content); err != nil {
		return nil, err
	}
	cmd := exec.Command(r.program, conf)
	r.identity.apply(cmd)
	return cmd, nil
}

func (r *redisServer) ping(ctx context.Context, port int) (err error) {
	client := redis.NewClient(&redis.Options{Addr: loopback(port), Password: r.password, MaxRetries: -1})
	defer func() {
		if closeErr := client.Close(); err == nil {
			err = closeErr
		}
	}()
	return client.Ping(ctx).Err()
}

func (r *redisServer) url(port int) string {
	u := url.URL{Scheme: "redis", User: url.UserPassword("", r.password), Host: loopback(port), Path: "/0"}
	return u.String()
}

func (r *redisServer) stopSignal() syscall.Signal { return syscall.SIGTERM }
