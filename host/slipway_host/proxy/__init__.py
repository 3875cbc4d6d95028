"""Change nginx's configuration on this host without ever leaving it broken.

Every change is validated, put in place by one rename(2), reloaded, and then proven: we ask the running nginx which
configuration and which releases it serves. A reload may return 0 while the old configuration keeps serving, because a
port is taken, for example. A change that can't be proven is undone.

/etc/nginx/nginx.conf   -> slipway/nginx.conf
/etc/nginx/slipway      -> slipway.d/<generation>    a folder for each configuration, named by its content
/etc/nginx/upstreams/<app>.conf                      which release of an app serves

  nginx.py        the verbs: status, check, apply, switch, reload
  generations.py  the files and folders above
  live.py         the running nginx: ask it, reload it, prove it
  sockets.py      how many connections a release's socket has
"""
