package main

import (
	"errors"
	"runtime/debug"
	"time"

	"github.com/millrace/millrace/graph"
	"github.com/millrace/millrace/internal/projector"
	"github.com/millrace/millrace/internal/responsecache"
	"github.com/millrace/millrace/internal/slots"
	"github.com/millrace/millrace/projections/catalogue"
	"github.com/millrace/millrace/projections/stock"
)

// cacheFlags are the settings of the cache of whole answers.
type cacheFlags struct {
	CacheMiB    int64         `name:"cache-mib" default:"64" env:"MILLRACE_CACHE_MIB" placeholder:"MIB" help:"Memory for answers to public queries; 0 keeps none."`
	CacheMaxAge time.Duration `default:"0s" env:"MILLRACE_CACHE_MAX_AGE" placeholder:"DURATION" help:"For how long browsers and CDNs may show a public answer without asking again."`
	CacheStale  time.Duration `default:"60s" env:"MILLRACE_CACHE_STALE" placeholder:"DURATION" help:"For how long old public answers are served while the stores are away."`
}

func (f cacheFlags) check() error {
	if f.CacheMiB < 0 || f.CacheMaxAge < 0 || f.CacheStale < 0 {
		return usageError{errors.New("--cache-mib, --cache-max-age and --cache-stale (MILLRACE_CACHE_...) must not be below zero")}
	}
	return nil
}

// open starts the cache, nil if none is wanted.
func (f cacheFlags) open(s *shop, models *projector.Models) (*responsecache.Cache, error) {
	if f.CacheMiB == 0 {
		return nil, nil
	}
	answers, err := s.answers()
	if err != nil {
		return nil, err
	}
	cache, err := responsecache.New(responsecache.Options{
		Feed: s.feed, Models: models, Projections: []string{catalogue.Name, stock.Name}, Shared: answers,
		Bytes: f.CacheMiB << 20, Stale: f.CacheStale, Logger: s.logger, Metrics: s.registry,
	})
	if err != nil {
		return nil, err
	}
	s.start(cache.Run)
	return cache, nil
}

const (
	// sharedBytes bounds the memory that each table takes in Redis, and the others the length and the life of what is in it.
	sharedBytes    = 64 << 20
	sharedAnswer   = 64 << 10
	sharedDocument = 16 << 10
	documentLife   = 30 * 24 * time.Hour
)

// answers is where the apis of a shop share answers. Another release may answer otherwise.
func (s *shop) answers() (*slots.Table, error) {
	return s.table(slots.Options{
		Name: "answers", Variant: "-" + release(), Bytes: sharedBytes, ValueBytes: sharedAnswer, TTL: responsecache.DefaultMaxAge,
	})
}

// documents is where they share persisted documents.
func (s *shop) documents() (*slots.Table, error) {
	return s.table(slots.Options{
		Name: "persisted", Bytes: sharedBytes, ValueBytes: sharedDocument, TTL: documentLife,
	})
}

// table opens a table that the apis of the shop share.
func (s *shop) table(o slots.Options) (*slots.Table, error) {
	o.Redis, o.Info, o.Logger, o.Metrics = s.redis, s.log.Info(), s.logger, s.registry
	t, err := slots.New(o)
	if err == nil {
		s.tellOf(t)
	}
	return t, err
}

// release tells builds apart: by their version and, where that is known, their commit, and by what their API offers.
func release() string {
	name := version + "-" + graph.SchemaHash()
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, setting := range info.Settings {
			if setting.Key == "vcs.revision" {
				name += "-" + setting.Value[:min(len(setting.Value), 12)]
			}
		}
	}
	return name
}
