-- managed by certctl, do not edit: your changes would be overwritten
--
-- Chooses the certificate of each TLS handshake: from this worker's parsed ones, else from the mirror, else it asks
-- the daemon to have one made and waits. Keys come from the mirror and from nowhere else.

local ffi = require "ffi"
local lrucache = require "resty.lrucache"
local ssl = require "ngx.ssl"

local PATIENCE = 12 -- seconds for the daemon's whole answer; browsers give up at 30
local LONGEST_ANSWER = 8192 -- bytes
local LONGEST_REFUSAL = 3600 -- seconds
local TRIES = 3
local CHAIN, KEY = "fullchain.pem", "privkey.pem"
local CHECK_DOMAIN = "certctl-check.invalid" -- certctl's own look at TLS: never a visit

-- statx(2) is laid out alike on every architecture, which stat(2) is not (glibc 2.28).
pcall(ffi.cdef, [[
    typedef struct {
        uint32_t mask, blksize;
        uint64_t attributes;
        uint32_t nlink, uid, gid;
        uint16_t mode, spare;
        uint64_t ino, size, blocks, attributes_mask;
        struct { int64_t sec; uint32_t nsec; int32_t spare; } atime, btime, ctime, mtime;
        uint8_t rest[128];
    } certctl_statx;
    int statx(int directory, const char *path, int flags, unsigned int mask, certctl_statx *found);
]])
local AT_FDCWD, STATX_CTIME_INO = -100, 0x180
local found = ffi.new("certctl_statx")

-- Identify the file behind a path. The version's number would not do: a restored backup counts from an older one.
local function identity(path)
    if ffi.C.statx(AT_FDCWD, path, 0, STATX_CTIME_INO, found) ~= 0 then
        return nil
    end
    return tonumber(found.ino), tonumber(found.ctime.sec), found.ctime.nsec
end

local function is_same(version, inode, seconds, nanoseconds)
    return version.inode == inode and version.seconds == seconds and version.nanoseconds == nanoseconds
end

local function read(path, parse)
    local file, problem = io.open(path, "rb")
    if not file then
        return nil, problem
    end
    local text = file:read("*a")
    file:close()
    return parse(text or "")
end

-- Read the version in force. If the link was swapped meanwhile, chain and key may be of two versions: once more.
local function load(current)
    local version, problem
    for _ = 1, TRIES do
        version = { path = current .. CHAIN }
        version.inode, version.seconds, version.nanoseconds = identity(version.path)
        if not version.inode then
            return nil
        end
        version.chain, problem = read(version.path, ssl.parse_pem_cert)
        if version.chain then
            version.key, problem = read(current .. KEY, ssl.parse_pem_priv_key)
        end
        if is_same(version, identity(version.path)) then
            break
        end
    end
    if not version.key then
        ngx.log(ngx.ALERT, "certctl: cannot use ", current, ": ", problem)
        return nil
    end
    return version
end

-- Return the name a client asks for in its plain form, or nil: what it sends is any bytes but NUL.
local function plain(name)
    if not name or #name > 254 then
        return nil
    end
    name = name:lower():gsub("%.$", "")
    if #name > 253 or not name:find(".", 1, true) or name:find("..", 1, true) then
        return nil
    end
    for label in (name .. "."):gmatch("([^.]*)%.") do
        if #label > 63 or not label:find("^[a-z0-9][a-z0-9-]*$") or label:sub(-1) == "-" then
            return nil
        end
    end
    return name
end

-- Put one question to the daemon; return the status and for how many seconds a refusal holds, or nil.
local function question(socket, name)
    local give_up = ngx.now() + PATIENCE
    local connection = ngx.socket.tcp()
    connection:settimeout(2000)
    if not connection:connect("unix:" .. socket) then
        return nil
    end
    local answer, from = "", nil
    local sent = connection:send("GET /certificate/" .. name .. " HTTP/1.1\r\nHost: certctl\r\nConnection: close\r\n\r\n")
    while sent and not from and #answer < LONGEST_ANSWER and ngx.now() < give_up do
        connection:settimeout(math.max(1, (give_up - ngx.now()) * 1000))
        local part = connection:receiveany(4096)
        if not part then
            break
        end
        answer = answer .. part
        from = answer:find("\r\n\r\n", 1, true)
    end
    connection:close()
    if not from then
        return nil
    end
    local head = answer:sub(1, from + 1):lower()
    local seconds = head:match("\r\ncache%-control:[^\r]*max%-age=(%d+)") or head:match("\r\nretry%-after: *(%d+)\r")
    return tonumber(head:match("^http/1%.[01] (%d%d%d)")), tonumber(seconds)
end

-- Make the handler of one worker for the mirror at `live` and the daemon at `socket`. It keeps `most` parsed
-- certificates, and lets `patient` handshakes wait at a time.
return function(live, socket, most, patient)
    local parsed = assert(lrucache.new(most))
    local refused = ngx.shared.certctl_refused
    local waiting = {}

    -- Return the version in force if it is parsed already. Whatever a client sent, only plain names are kept here.
    local function known(name)
        local version = parsed:get(name)
        return version and is_same(version, identity(version.path)) and version
    end

    local function find(name)
        local version = load(live .. "/" .. name .. "/current/")
        if version then
            parsed:set(name, version)
        else
            parsed:delete(name)
        end
        return version
    end

    -- Tell whether one more may wait. A place is free again when its time is over, also where the handshake that
    -- waited in it was dropped and nothing of ours ran any more.
    local function has_room()
        local now, taken = ngx.now(), 0
        for place, give_up in pairs(waiting) do
            if give_up < now then
                waiting[place] = nil
            else
                taken = taken + 1
            end
        end
        return taken < patient
    end

    -- Have the daemon get a certificate; tell whether it did. Only its own word counts as a refusal to remember.
    local function obtain(name)
        if name == CHECK_DOMAIN or refused:get(name) or not has_room() then
            return false
        end
        local place = {}
        waiting[place] = ngx.now() + PATIENCE
        local ok, status, seconds = pcall(question, socket, name)
        waiting[place] = nil
        if ok and (status == 404 or status == 503) and seconds and seconds > 0 then
            refused:set(name, true, math.min(seconds, LONGEST_REFUSAL))
        end
        return ok and status == 200
    end

    return function()
        local asked = ssl.server_name()
        local version = asked and known(asked)
        local name = not version and plain(asked)
        if name then
            version = known(name) or find(name) or obtain(name) and find(name)
        end
        if not version then
            return ngx.exit(ngx.ERROR)
        end
        ssl.clear_certs()
        if not (ssl.set_cert(version.chain) and ssl.set_priv_key(version.key)) then
            ngx.log(ngx.ALERT, "certctl: certificate and key in ", version.path, " do not fit")
            return ngx.exit(ngx.ERROR)
        end
    end
end
