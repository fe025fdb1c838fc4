"""The cache of a distant disk: the only layer between file systems and a backend.

`disk` reads, `fetching` fetches what is missing, `slabs` keeps what came and evicts it, `prefetch` queues what
will be wanted.
"""

from vmount.cache.disk import CachedDisk, CacheStats
from vmount.cache.options import CacheOptions
from vmount.cache.slabs import LINE, CacheBudget

__all__ = ["LINE", "CacheBudget", "CacheOptions", "CacheStats", "CachedDisk"]
