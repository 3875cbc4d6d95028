"""Change nginx's configuration on this host without ever leaving it broken.

Every change is validated before it is put in place, switched by one rename(2), reloaded, and then proven: the
running nginx itself is asked which configuration and which releases it serves, since a reload may return 0 while
the old configuration goes on serving (a listen port that is taken, for one). What could not be proven is taken
back.

/etc/nginx/nginx.conf   -> slipway/nginx.conf
/etc/nginx/slipway      -> slipway.d/<generation>    one folder a configuration, named by its content
/etc/nginx/upstreams/<app>.conf                      which release of an app serves

  nginx.py        its verbs: status, check, apply, switch, reload
  generations.py  the files and folders above: what is there, and what should be
  live.py         the running nginx: asked, reloaded, proven
  sockets.py      how many connections a release's socket has
"""
